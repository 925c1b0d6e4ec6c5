"""
The child of `run` shares its parent's memory until execve, like a child of vfork(2).

The plan decides which children do (tests/unit/test_plan.py), and test_failures.py has the steps
that fail in one. Here: what sharing must not change, and a child that is killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

import pycontain
from pycontain.kernel import calls, vfork
from pycontain.lean import archive
from pycontain.library import container as library
from pycontain.library.cancel import Limit
from pycontain.library.messages import send
from pycontain.library.pool import WorkerPool
from pycontain.options import Options
from pycontain.runtime.delete import delete, remove_unfinished
from pycontain.runtime.handle import Handle
from tests.bundles import LIMIT, TOKEN, look

PROGRAM = (b"/bin/sh", (b"sh", b"-c", b"exit 7"), ())
RECOVERY = (b"/bin/false", b"false")


def refuse(number):
    raise AssertionError(f"execve: {os.strerror(number)}")


def spawned(work, refuse=refuse, recovery=RECOVERY):
    """The exit status of a child that does this work, and what it left in this process's memory."""
    left = []

    def work_here(pid, pidfd):
        left.append((pid, pidfd))
        return work(left)

    try:
        vfork.spawn(0, -1, work_here, refuse, recovery)
    finally:
        [(pid, pidfd), *rest] = left
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        assert ended.si_pid == pid
        os.close(pidfd)
    return ended.si_status, rest


def test_the_parent_sees_what_the_child_writes_to_memory():
    def work(left):
        left.append(os.getpid())
        return PROGRAM

    status, [pid] = spawned(work)
    assert status == 7
    assert pid != os.getpid()


def test_the_parents_descriptors_directory_signals_and_umask_are_unchanged():
    def work(_):
        os.close(reader)
        os.chdir("/proc")
        os.umask(0o777)
        calls.default_signals()
        return PROGRAM

    reader, writer = os.pipe()
    folder, mask, handled = os.getcwd(), os.umask(0o022), signals()
    spawned(work)
    assert os.fstat(reader)
    assert (os.getcwd(), os.umask(mask), signals()) == (folder, 0o022, handled)
    os.close(reader)
    os.close(writer)


def signals():
    """How this process handles signals."""
    with open("/proc/self/status") as file:
        return [line for line in file if line.startswith("Sig") and not line.startswith("SigQ")]


class Wrong(Exception):
    pass


def test_what_the_child_raises_is_raised_in_the_parent():
    def work(_):
        raise Wrong("deep inside")

    for _ in range(100):  # leftovers would add up
        with pytest.raises(Wrong, match="deep inside"):
            spawned(work)


def test_a_program_that_cannot_be_executed_is_refused_in_the_child():
    def raise_wrong(number):
        raise Wrong(os.strerror(number), os.getpid())

    with pytest.raises(Wrong, match="No such file") as caught:
        spawned(lambda _: (b"/nowhere", (), ()), raise_wrong)
    assert caught.value.args[1] != os.getpid()


@pytest.mark.parametrize(
    "program", [(b"/bin/sh", (b"a\0b",), ()), ("/bin/sh", (), ()), (b"/bin/sh", ("x",), ())]
)
def test_an_invalid_program_is_an_error(program):
    with pytest.raises((TypeError, ValueError)):
        spawned(lambda _: program)


def test_references_are_not_leaked():
    def work(_):
        return (b"/bin/true", (word,), ())

    word = b"a word that is only here"
    spawned(work)
    before = sys.getrefcount(word)
    for _ in range(50):
        spawned(work)
    assert sys.getrefcount(word) == before


def test_a_failed_clone_is_an_error():
    with pytest.raises(Exception, match="clone3"):
        vfork.spawn(0x1 << 62, -1, lambda *_: PROGRAM, refuse, RECOVERY)


# --- a child that is killed, or whose parent is -------------------------------------------------

RUN = """
import os, sys, time
sys.path = {path!r}
from pycontain.plan.walk import child_step
from pycontain.kernel._ffi import ffi
from pycontain.options import Options
from pycontain.plan.request import Request
from pycontain.runtime.run import run

perform = child_step.perform
def perform_until(step, context):
    if step.name == {step!r}:
        {action}
    perform(step, context)
child_step.perform = perform_until
options = Options(root={root!r}, log={root!r} + ".log", log_format="json")
run(options, Request(id={id!r}, bundle={bundle!r}))
print("the parent continued")
"""
CRASH = 'ffi.cast("int *", 8)[0] = 1'
HALT = 'os.write(2, b"here"); os.read(0, 1)'


def run_until(made, root, step, action):
    """A runtime whose child runs this code at the beginning of a step."""
    text = RUN.format(
        path=sys.path, step=step, action=action, root=str(root), id=ID, bundle=str(made.path)
    )
    return subprocess.Popen(
        [sys.executable, "-c", text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


ID = f"{TOKEN}-killed"
KILLED = "the container's first process was killed by signal 11 while it was being set up; see"


@pytest.mark.parametrize("step", ["guard", "mount", "pivot", "find program"])
def test_a_child_that_crashes_leaves_nothing(bundle, tmp_path, step):
    made = bundle(
        "true", {"hooks": {"poststop": [{"path": "/bin/touch", "args": ["touch", "ran"]}]}}
    )
    before = look()
    process = run_until(made, tmp_path / "state", step, CRASH)
    out, err = process.communicate(timeout=LIMIT)
    assert out == b""
    assert process.returncode == 1
    assert err.startswith(f"pycontain: {KILLED}".encode())
    assert KILLED in json.loads((tmp_path / "state.log").read_text())["msg"]
    assert os.listdir(tmp_path / "state") == []
    assert look() == before
    assert not (made.path / "ran").exists(), "no hook ran that this one would have to undo"


HANDLED = """
import ctypes, os, signal, sys, time
sys.path = {path!r}
from pycontain.kernel import vfork
from pycontain.kernel.wait import Until

def live(pid, pidfd):
    [watching] = set(map(int, os.listdir("/proc/%d/task" % os.getppid()))) - {{os.getppid()}}
    for _ in range(20):
        assert tgkill(os.getppid(), watching, signal.SIGUSR1) == 0
        time.sleep(0.01)
    return b"/bin/sh", (b"sh", b"-c", b"exit 7"), ()

tgkill = ctypes.CDLL(None).tgkill
signal.signal(signal.SIGUSR1, lambda *_: None)
quiet, _ = os.pipe()
until = Until(signals=quiet) if {forever} else Until(time.monotonic() + 100, quiet)
_, pidfd = vfork.spawn(0, -1, live, None, (b"/bin/echo", b"echo", b"was killed:"), until)
print(os.waitid(os.P_PIDFD, pidfd, os.WEXITED).si_status)
"""


@pytest.mark.parametrize("forever", [True, False])
def test_the_wait_for_a_child_outlasts_signals_that_have_a_handler(forever):
    """poll(2) returns EINTR after each, which is neither the deadline nor a signal that ends it."""
    code = HANDLED.format(path=sys.path, forever=forever)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("7\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_child_that_does_not_continue(bundle, tmp_path, number):
    """The parent, which sleeps meanwhile, has it killed, and exits like a shell reports it."""
    with run_until(bundle("true"), tmp_path / "state", "pivot", HALT) as process:
        assert process.stderr.read(4) == b"here"
        process.send_signal(signal.SIGHUP)  # blocked until the program runs
        process.send_signal(number)
        assert process.stderr.read() == f"pycontain: interrupted by signal {number}\n".encode()
    assert process.returncode == 128 + number
    assert os.listdir(tmp_path / "state") == []


def test_another_container_of_that_name_is_not_removed(runtime, bundle):
    options = Options(root=str(runtime.root))
    id = runtime.started(bundle("sleep 100"))
    error = remove_unfinished(options, id, "2026-01-01T00:00:00.000000Z", "was killed by signal 11")
    assert KILLED in str(error)
    assert runtime.state(id)["status"] == "running"
    remove_unfinished(options, id, Handle(options, id).state.created, "was killed")
    assert runtime.ids() == []


@contextmanager
def halted(made, tmp_path, step):
    """A runtime that was killed while its child halts at a step."""
    with run_until(made, tmp_path / "state", step, HALT) as process:
        assert process.stderr.read(4) == b"here"
        process.kill()
        process.wait()
        yield process


@pytest.mark.parametrize("step", ["guard", "mount", "pivot", "find program"])
def test_a_container_whose_runtime_was_killed_can_be_deleted(bundle, tmp_path, step):
    """Its child holds no lock that `delete` would have to wait for."""
    with halted(bundle("true"), tmp_path, step) as process:
        delete(Options(root=str(tmp_path / "state")), ID, force=True)
        assert process.stderr.read() == b"", "end of file, since the child has exited too"
    assert os.listdir(tmp_path / "state") == []


def test_a_child_whose_runtime_was_killed_does_not_run_its_program(bundle, tmp_path):
    made = bundle("echo >/ran")
    with halted(made, tmp_path, "find program") as process:
        process.stdin.write(b"go on")
        process.stdin.flush()
        assert process.stderr.read() == b"", "the child has exited"
    assert not (made.rootfs / "ran").exists()
    delete(Options(root=str(tmp_path / "state")), ID, force=True)
    assert os.listdir(tmp_path / "state") == []


def test_a_container_is_created_before_its_program_runs(runtime, bundle):
    """When the program's output is visible, its container is no longer being created."""
    made = bundle("echo up; sleep 100")
    for _ in range(20):
        id = runtime.new_id()
        command = runtime.command("run", "-b", made.path, id)
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"up\n"
            assert Handle(Options(root=str(runtime.root)), id).status == "running"
            runtime.ok("kill", id, "KILL")


def test_the_times_of_the_steps_add_up_to_less_than_the_wall_time(bundle, tmp_path):
    options = Options(root=str(tmp_path / "state"))
    found = pycontain.run(bundle().path, options=options)
    names = [name for _, name, _ in found.times]
    assert names[:6] == ["reserve", "cgroup", "device filter", "spawn", "record", "guard"]
    assert names[-2:] == ["find program", "created"]
    assert min(spent for *_, spent in found.times) >= 0
    assert sum(spent for *_, spent in found.times) < found.wall * 1_000_000
    pycontain.close()


CRASHING = """
from pycontain.plan.walk import child_step
from pycontain.kernel._ffi import ffi
from pycontain.library.worker import serve

perform = child_step.perform
def perform_or_crash(step, context):
    if step.name == "pivot" and context.hook_state["id"] == "victim":
        ffi.cast("int *", 8)[0] = 1
    perform(step, context)
child_step.perform = perform_or_crash
"""


@pytest.fixture
def crashing(monkeypatch, tmp_path):
    """Workers whose child crashes when the container is called "victim"."""
    (tmp_path / "crashing.py").write_text(CRASHING)
    monkeypatch.syspath_prepend(tmp_path)
    command = archive.command
    monkeypatch.setattr(archive, "command", lambda path, _: command(path, "crashing:serve"))
    monkeypatch.setattr(library, "_pool", WorkerPool())


def test_the_library_worker_survives_a_child_that_crashes(bundle, tmp_path, crashing):
    """It has executed itself again and kept what it knew."""
    options = Options(root=str(tmp_path / "state"))
    before = look()
    with pycontain.Container(bundle("sleep 100").path, options=options) as other:
        other.create()
        other.start()
        workers = set(children())
        with pytest.raises(pycontain.StepError, match="was killed while it was being set up"):
            pycontain.run(bundle().path, id="victim", options=options)
        assert other.state()["status"] == "running"
        assert pycontain.run(bundle("echo on").path, options=options).stdout == b"on\n"
        assert os.listdir(options.root) == [other.id]
        assert set(children()) == workers, "the same worker, and no zombie"
    pycontain.close()
    assert look() == before


def test_a_worker_that_recovers_without_its_program_deletes_its_containers(
    bundle, tmp_path, crashing
):
    """Nobody receives its answer."""
    options = Options(root=str(tmp_path / "state"))
    made = pycontain.Container(bundle("sleep 100").path, options=options)
    made.create()
    worker = library._pool.take(Limit(None))
    before = set(children())
    request = {
        "verb": "run", "id": "victim", "bundle": str(bundle().path), "config": "", "isolation": "",
    }  # fmt: skip
    where = {"root": options.root, "cgroup_manager": "cgroupfs", "cgroup_missing": "error"}
    send(worker.socket, {**request, **where, "seconds": None}, [0, 1, 2])
    worker.end()
    [victim] = set(children()) - before
    os.waitpid(int(victim), 0)  # the answer would have requested this
    assert os.listdir(options.root) == []
    assert made.wait() == 128 + signal.SIGKILL


def test_the_containers_of_a_crashed_worker_end_with_the_program(bundle, tmp_path, crashing):
    options = Options(root=str(tmp_path / "state"))
    made = pycontain.Container(bundle("sleep 100").path, options=options)
    made.create()
    with pytest.raises(pycontain.StepError):
        pycontain.run(bundle().path, id="victim", options=options)
    assert os.listdir(options.root) == [made.id]
    pycontain.close()  # as the end of the program does
    assert os.listdir(options.root) == []
    assert made.wait() == 128 + signal.SIGKILL


STRANGE = """
from pycontain.init import program
from pycontain.library.worker import Server, serve

command, launch = program.command, Server._launch
def strange_command(step, context):
    path, arguments, environment = command(step, context)
    return (path, (*arguments, b"a NUL \\0 inside"), environment) if "NUL" in step.args else (
        path, arguments, environment)
def strange_launch(server, request, ours):
    if request["id"] == "victim":
        raise RuntimeError("unforeseen")
    return launch(server, request, ours)
program.command, Server._launch = strange_command, strange_launch
"""


def test_no_exception_ends_the_worker(bundle, tmp_path, monkeypatch):
    """Its other containers would end with it."""
    (tmp_path / "strange.py").write_text(STRANGE)
    monkeypatch.syspath_prepend(tmp_path)
    command = archive.command
    monkeypatch.setattr(archive, "command", lambda path, _: command(path, "strange:serve"))
    monkeypatch.setattr(library, "_pool", WorkerPool())
    options = Options(root=str(tmp_path / "state"))
    before = look()
    with pycontain.Container(bundle("sleep 100").path, options=options) as other:
        other.create()
        workers = set(children())
        with pytest.raises(pycontain.StepError, match="embedded null byte") as caught:
            pycontain.run(bundle().path, ["echo", "NUL"], options=options)
        assert caught.value.fault.step == "execve"
        with pytest.raises(pycontain.StepError, match="unforeseen"):
            pycontain.run(bundle().path, id="victim", options=options)
        assert os.listdir(options.root) == [other.id]
        assert other.state()["status"] == "created"
        assert set(children()) == workers, "the same worker, and no zombie"
    pycontain.close()
    assert look() == before


def children():
    """The children of this thread."""
    with open("/proc/thread-self/children") as file:
        return file.read().split()
