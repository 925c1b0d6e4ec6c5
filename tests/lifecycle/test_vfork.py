"""
The child of `run` shares its parent's memory until execve, as one of vfork(2) does.

Which children do is the plan's to say (tests/unit/test_plan.py), and what happens when a step of
one fails is in test_failures.py. Here: what sharing must not change, and a child that is killed.
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
from pycontain.library.messages import send
from pycontain.library.pool import Pool
from pycontain.options import Options
from pycontain.runtime.delete import delete, remove_unfinished
from pycontain.runtime.handle import Handle
from tests.bundles import LIMIT, TOKEN, look

PROGRAM = (b"/bin/sh", (b"sh", b"-c", b"exit 7"), ())
RECOVERY = (b"/bin/false", b"false")


def refuse(number):
    raise AssertionError(f"execve: {os.strerror(number)}")


def spawned(live, refuse=refuse, recovery=RECOVERY):
    """The status of a child that lives so, and what it left in this process's memory."""
    left = []

    def live_here(pid, pidfd):
        left.append((pid, pidfd))
        return live(left)

    try:
        vfork.spawn(0, -1, live_here, refuse, recovery)
    finally:
        [(pid, pidfd), *rest] = left
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        assert ended.si_pid == pid
        os.close(pidfd)
    return ended.si_status, rest


def test_what_the_child_writes_to_memory_the_parent_finds():
    def live(left):
        left.append(os.getpid())
        return PROGRAM

    status, [pid] = spawned(live)
    assert status == 7
    assert pid != os.getpid()


def test_descriptors_directory_signals_and_mask_stay_the_parents_own():
    def live(_):
        os.close(reader)
        os.chdir("/proc")
        os.umask(0o777)
        calls.default_signals()
        return PROGRAM

    reader, writer = os.pipe()
    folder, mask, handled = os.getcwd(), os.umask(0o022), signals()
    spawned(live)
    assert os.fstat(reader)
    assert (os.getcwd(), os.umask(mask), signals()) == (folder, 0o022, handled)
    os.close(reader)
    os.close(writer)


def signals():
    """What this process does about signals."""
    with open("/proc/self/status") as file:
        return [line for line in file if line.startswith("Sig")]


class Wrong(Exception):
    pass


def test_what_the_child_raises_is_raised_in_the_parent():
    def live(_):
        raise Wrong("deep inside")

    for _ in range(100):  # nothing is left over that would add up
        with pytest.raises(Wrong, match="deep inside"):
            spawned(live)


def test_a_program_that_cannot_be_executed_is_refused_in_the_child():
    def said(number):
        raise Wrong(os.strerror(number), os.getpid())

    with pytest.raises(Wrong, match="No such file") as caught:
        spawned(lambda _: (b"/nowhere", (), ()), said)
    assert caught.value.args[1] != os.getpid()


@pytest.mark.parametrize(
    "program", [(b"/bin/sh", (b"a\0b",), ()), ("/bin/sh", (), ()), (b"/bin/sh", ("x",), ())]
)
def test_what_is_no_program_is_an_error(program):
    with pytest.raises((TypeError, ValueError)):
        spawned(lambda _: program)


def test_references_do_not_add_up():
    def live(_):
        return (b"/bin/true", (word,), ())

    word = b"a word that is only here"
    spawned(live)
    before = sys.getrefcount(word)
    for _ in range(50):
        spawned(live)
    assert sys.getrefcount(word) == before


def test_without_a_child_there_is_an_error():
    with pytest.raises(Exception, match="clone3"):
        vfork.spawn(0x1 << 62, -1, lambda *_: PROGRAM, refuse, RECOVERY)


# --- a child that is killed, and one whose parent is ----------------------------------------------

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
        {deed}
    perform(step, context)
child_step.perform = perform_until
options = Options(root={root!r}, log={root!r} + ".log", log_format="json")
run(options, Request(id={id!r}, bundle={bundle!r}))
print("the parent went on")
"""
CRASH = 'ffi.cast("int *", 8)[0] = 1'
HALT = 'os.write(2, b"here"); os.read(0, 1)'


def run_until(made, root, step, deed):
    """A runtime whose child does this at the beginning of a step."""
    text = RUN.format(
        path=sys.path, step=step, deed=deed, root=str(root), id=ID, bundle=str(made.path)
    )
    return subprocess.Popen(
        [sys.executable, "-c", text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


ID = f"{TOKEN}-killed"
DEATH = "the container's first process was killed by signal 11 while it was set up; look for"


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
    assert err.startswith(f"pycontain: {DEATH}".encode())
    assert DEATH in json.loads((tmp_path / "state.log").read_text())["msg"]
    assert os.listdir(tmp_path / "state") == []
    assert look() == before
    assert not (made.path / "ran").exists(), "no hooks ran that this one could take back"


def test_pending_signals_do_not_end_the_recovery(bundle, tmp_path):
    """What a terminal sends reaches the runtime, too, which has blocked it."""
    with run_until(bundle("true"), tmp_path / "state", "pivot", HALT) as process:
        assert process.stderr.read(4) == b"here"
        for number in (signal.SIGINT, signal.SIGTERM):
            process.send_signal(number)
        os.kill(Handle(Options(root=str(tmp_path / "state")), ID).state.pid, signal.SIGKILL)
        assert b"was killed by signal 9 while" in process.stderr.read()
    assert process.returncode == 1
    assert os.listdir(tmp_path / "state") == []


def test_what_is_left_is_no_other_container_of_that_name(runtime, bundle):
    options = Options(root=str(runtime.root))
    id = runtime.started(bundle("sleep 100"))
    death = remove_unfinished(options, id, "2026-01-01T00:00:00.000000Z", "was killed by signal 11")
    assert DEATH in str(death)
    assert runtime.state(id)["status"] == "running"
    remove_unfinished(options, id, Handle(options, id).state.created, "died")
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
        assert process.stderr.read() == b"", "the end of file, since the child has ended, too"
    assert os.listdir(tmp_path / "state") == []


def test_a_child_whose_runtime_was_killed_does_not_run_its_program(bundle, tmp_path):
    made = bundle("echo >/ran")
    with halted(made, tmp_path, "find program") as process:
        process.stdin.write(b"go on")
        process.stdin.flush()
        assert process.stderr.read() == b"", "the child has ended"
    assert not (made.rootfs / "ran").exists()
    delete(Options(root=str(tmp_path / "state")), ID, force=True)
    assert os.listdir(tmp_path / "state") == []


def test_a_container_is_created_before_its_program_runs(runtime, bundle):
    """Nobody who sees what the program does finds it still being made."""
    made = bundle("echo up; sleep 100")
    for _ in range(20):
        id = runtime.new_id()
        command = runtime.command("run", "-b", made.path, id)
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"up\n"
            assert Handle(Options(root=str(runtime.root)), id).status == "running"
            runtime.ok("kill", id, "KILL")


def test_the_times_of_the_steps_add_up_to_less_than_the_whole(bundle, tmp_path):
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
    monkeypatch.setattr(library, "_pool", Pool())


def test_the_worker_of_the_library_lives_on(bundle, tmp_path, crashing):
    """It is another program by then, which knows what the first one knew."""
    options = Options(root=str(tmp_path / "state"))
    before = look()
    with pycontain.Container(bundle("sleep 100").path, options=options) as other:
        other.create()
        other.start()
        workers = set(children())
        with pytest.raises(pycontain.StepError, match="was killed while it was set up"):
            pycontain.run(bundle().path, id="victim", options=options)
        assert other.state()["status"] == "running"
        assert pycontain.run(bundle("echo on").path, options=options).stdout == b"on\n"
        assert os.listdir(options.root) == [other.id]
        assert set(children()) == workers, "the same worker, and no zombie"
    pycontain.close()
    assert look() == before


def test_a_worker_that_recovers_without_its_program_deletes_what_it_made(
    bundle, tmp_path, crashing
):
    """Its answer reaches nobody."""
    options = Options(root=str(tmp_path / "state"))
    made = pycontain.Container(bundle("sleep 100").path, options=options)
    made.create()
    worker = library._pool.take()
    before = set(children())
    request = {"verb": "run", "id": "victim", "bundle": str(bundle().path), "config": ""}
    where = {"root": options.root, "cgroup_manager": "cgroupfs"}
    send(worker.socket, {**request, **where}, [0, 1, 2])
    worker.end()
    [victim] = set(children()) - before
    os.waitpid(int(victim), 0)  # which the answer would have asked for
    assert os.listdir(options.root) == []
    assert made.wait() == 128 + signal.SIGKILL


def test_what_the_worker_made_ends_with_the_program_after_all(bundle, tmp_path, crashing):
    options = Options(root=str(tmp_path / "state"))
    made = pycontain.Container(bundle("sleep 100").path, options=options)
    made.create()
    with pytest.raises(pycontain.StepError):
        pycontain.run(bundle().path, id="victim", options=options)
    assert os.listdir(options.root) == [made.id]
    pycontain.close()  # as the end of the program would
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
        raise RuntimeError("nobody thought of this")
    return launch(server, request, ours)
program.command, Server._launch = strange_command, strange_launch
"""


def test_no_exception_ends_the_worker(bundle, tmp_path, monkeypatch):
    """It has made other containers, which it would take with it."""
    (tmp_path / "strange.py").write_text(STRANGE)
    monkeypatch.syspath_prepend(tmp_path)
    command = archive.command
    monkeypatch.setattr(archive, "command", lambda path, _: command(path, "strange:serve"))
    monkeypatch.setattr(library, "_pool", Pool())
    options = Options(root=str(tmp_path / "state"))
    before = look()
    with pycontain.Container(bundle("sleep 100").path, options=options) as other:
        other.create()
        workers = set(children())
        with pytest.raises(pycontain.StepError, match="embedded null byte") as caught:
            pycontain.run(bundle().path, ["echo", "NUL"], options=options)
        assert caught.value.fault.step == "execve"
        with pytest.raises(pycontain.StepError, match="nobody thought of this"):
            pycontain.run(bundle().path, id="victim", options=options)
        assert os.listdir(options.root) == [other.id]
        assert other.state()["status"] == "created"
        assert set(children()) == workers, "the same worker, and no zombie"
    pycontain.close()
    assert look() == before


def children():
    """The processes that this one has to wait for."""
    with open("/proc/thread-self/children") as file:
        return file.read().split()
