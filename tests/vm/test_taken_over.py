"""
A monitor that a program has taken over leaves nothing behind, and its caller waits no longer.

The handler of one system call is replaced by arbitrary Python, as in test_jail; the jail is closed.
"""

from __future__ import annotations

import _signal
import contextlib
import os
import signal
import time

import pytest

from pycontain.errors import GuestError, KernelError, Timeout
from pycontain.vm import monitor
from pycontain.vm.linux.table import TABLE, Call
from pycontain.vm.program import World, run_program
from tests.bundles import wait_until
from tests.vm.programs import BUSYBOX

LIMIT = 20  # seconds, far more than any of this takes


@pytest.fixture
def held(tmp_path):
    """A file that the monitor and all that it leaves behind have open, as standard input."""
    with open(tmp_path / "held", "w+") as file:
        yield file


@pytest.fixture
def taken_over(needs_kvm, monkeypatch, held):
    """Run a program whose getuid(2) does this in its monitor."""

    def run(attack, timeout=None):
        def handler(task):
            attack(task)
            task.process.exit(7)
            return 0

        row = Call(**{**TABLE["getuid"].fields(), "function": handler})
        monkeypatch.setitem(TABLE, "getuid", row)
        world = World(stdin=held.fileno(), stdout=lambda _: None)
        return run_program([BUSYBOX, "true"], world=world, timeout=timeout).ending.status

    return run


@pytest.fixture
def without_namespace(monkeypatch):
    """As for a user without root, who may create no pid namespace."""

    def refused(_):
        raise KernelError.of("unshare", 1)

    monkeypatch.setattr(monitor.calls, "unshare", refused)


def survivor(task, work=lambda: None):
    """Leave a process behind that is nobody's child, and keeps every pipe."""
    if os.fork():
        return
    if not os.fork():
        end = time.monotonic() + 3 * LIMIT  # whatever the outcome of the test
        while time.monotonic() < end:
            with contextlib.suppress(OSError):  # its caller has closed the other end
                work()
            time.sleep(0.01)
    os._exit(0)


def writes(task):
    survivor(task, lambda: os.write(task.files.get(1).fd, b"x" * 4096))


def holders(file):
    """The other processes that have this file open."""
    found = set()
    for pid in set(filter(str.isdigit, os.listdir("/proc"))) - {str(os.getpid())}:
        try:
            links = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        except OSError:
            continue
        if file.name in links:
            found.add(int(pid))
    return found


def end(pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.needs_root
@pytest.mark.parametrize("attack", [survivor, writes])
def test_what_a_monitor_leaves_behind_ends_with_it(taken_over, held, attack):
    assert taken_over(attack) == 7
    assert holders(held) == set()


@pytest.mark.parametrize("attack", [survivor, writes])
def test_nobody_waits_for_what_outlives_a_monitor(taken_over, held, without_namespace, attack):
    began = time.monotonic()
    assert taken_over(attack) == 7
    assert time.monotonic() - began < LIMIT
    assert holders(held)  # the control of the test above: it is what the namespace is for
    end(holders(held))


@pytest.mark.control
def test_a_naive_caller_waits_until_all_pipes_are_closed(
    taken_over, held, without_namespace, monkeypatch
):
    def naive(takers, *_):
        """As long as anything has a pipe open, or until the test has seen that it waits."""
        ends = time.monotonic() + 2
        poll = monitor.select.poll()
        for reader in takers:
            poll.register(reader, monitor.select.POLLIN)
        left = set(takers)
        while left:
            for reader, _ in poll.poll(100):
                if not os.read(reader, 65536):
                    poll.unregister(reader)
                    left.discard(reader)
            assert time.monotonic() < ends, "still waits"

    monkeypatch.setattr(monitor, "_pass_on", naive)
    with pytest.raises(AssertionError, match="still waits"):
        taken_over(survivor)
    end(holders(held))


def sleeps(_):
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    end = time.monotonic() + 3 * LIMIT
    while time.monotonic() < end:
        time.sleep(1)


def floods(task):
    end = time.monotonic() + 3 * LIMIT
    while time.monotonic() < end:
        os.write(task.files.get(1).fd, b"x" * 65536)


def stops(_):
    os.kill(os.getpid(), signal.SIGSTOP)


@pytest.mark.parametrize("attack", [sleeps, floods, stops])
def test_a_deadline_holds_although_the_monitor_ignores_it(taken_over, held, attack):
    began = time.monotonic()
    with pytest.raises(Timeout, match="the program did not end within 1 s"):
        taken_over(attack, timeout=1)
    assert time.monotonic() - began < LIMIT
    assert holders(held) == set()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_the_signal_that_kills_a_monitor_is_named(taken_over, number):
    def attack(_):
        _signal.signal(number, _signal.SIG_DFL) if number != signal.SIGKILL else None
        os.kill(os.getpid(), number)

    with pytest.raises(GuestError, match=f"its monitor was killed by signal {number:d}$"):
        taken_over(attack)


@pytest.mark.needs_root
def test_the_namespace_is_the_monitors_alone(taken_over, held):
    """This thread's later children are in its own again."""
    own = os.readlink("/proc/thread-self/ns/pid")
    assert taken_over(lambda _: None) == 7
    assert os.readlink("/proc/thread-self/ns/pid_for_children") == own


@pytest.mark.needs_root
def test_a_monitor_ends_with_its_caller(needs_kvm, held, monkeypatch):
    caller = os.fork()
    if not caller:
        try:
            run_program(
                [BUSYBOX, "sleep", "60"], world=World(stdin=held.fileno(), stdout=lambda _: None)
            )
        finally:
            os._exit(0)
    wait_until(lambda: len(holders(held)) >= 2, "the monitor runs")
    os.kill(caller, signal.SIGKILL)
    os.waitpid(caller, 0)
    wait_until(lambda: holders(held) == set(), "the monitor has ended, too")


def test_a_caller_that_does_not_wait_for_its_children_gets_the_report(taken_over):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert taken_over(lambda _: None) == 7
    finally:
        signal.signal(signal.SIGCHLD, before)
