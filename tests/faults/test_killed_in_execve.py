"""
A program, or the command that starts it, is killed while the program is within its execve.

That is the one moment at which neither side can report anything: the pipe to the child is closed in
the middle of the call, as it is when the child dies. Killed at its beginning a program has not run,
which is an error; killed at its end, before its first instruction, it has, and its status is 137.
"""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from pycontain.kernel import calls
from pycontain.kernel import const as c
from tests.bundles import LIMIT, look
from tests.faults.tracer import Traced, reap_all
from tests.faults.trial import within

pytestmark = pytest.mark.needs_root

HOOK = {"hooks": {"createRuntime": [{"path": "/bin/true"}]}}
PROGRAM = "/bin/sleep"
BEGIN_AND_END = pytest.mark.parametrize("finished", [False, True], ids=["begins", "ends"])
RUNS = pytest.mark.parametrize(
    ("flags", "changes"),
    [((), {}), ((), HOOK), (("--detach",), {}), (("--detach",), HOOK)],
    ids=["vfork", "fork", "vfork, detached", "fork, detached"],
)
NOT_RUN = "before its program ran"


@pytest.fixture
def made(bundle):
    return bundle("", {"process.args": [PROGRAM, "1000"]})


@pytest.fixture(autouse=True)
def subreaper(runtime):
    """What commands leave becomes our child, which nobody else waits for; `runtime` then looks."""
    calls.prctl(c.PR_SET_CHILD_SUBREAPER, 1, name="PR_SET_CHILD_SUBREAPER")
    before = look()
    yield
    within(10, lambda: reap_all() or look()[:3] == before[:3])
    calls.prctl(c.PR_SET_CHILD_SUBREAPER, 0, name="PR_SET_CHILD_SUBREAPER")


@pytest.fixture
def traced(runtime, tmp_path):
    """Traces a command, and tells what it has said."""

    class Tracing:
        err = tmp_path / "traced.err"

        def __call__(self, *words) -> Traced:
            return Traced.command(runtime.command(*words), self.err)

        @property
        def said(self) -> str:
            return self.err.read_text()

    return Tracing()


def killed_within_execve(command: Traced, program: str, finished: bool) -> int:
    """The status of a command after what it starts was killed within its execve."""
    command.kill(command.until_execve(program, finished=finished))
    return command.to_the_end()


# --- the program is killed -----------------------------------------------------------------------


@BEGIN_AND_END
@RUNS
def test_run_tells_a_program_that_ran_from_one_that_did_not(
    runtime, made, traced, flags, changes, finished
):
    made.edit(changes)
    id = runtime.new_id()
    status = killed_within_execve(traced("run", *flags, "-b", made.path, id), "sleep", finished)
    if not finished:
        assert status == 1
        assert NOT_RUN in traced.said
    else:
        assert (status, traced.said) == (0 if flags else 128 + signal.SIGKILL, "")
        assert runtime.ids() == ([id] if flags else [])
    runtime.ok("delete", "--force", id)
    assert runtime.ids() == []


@BEGIN_AND_END
def test_exec_tells_a_program_that_ran_from_one_that_did_not(runtime, bundle, traced, finished):
    id = runtime.started(bundle("sleep 100"))
    status = killed_within_execve(traced("exec", id, PROGRAM, "7"), "sleep", finished)
    if finished:
        assert (status, traced.said) == (128 + signal.SIGKILL, "")
    else:
        assert status == 255
        assert NOT_RUN in traced.said
    assert runtime.state(id)["status"] == "running"
    runtime.ok("delete", "--force", id)


@BEGIN_AND_END
def test_start_tells_a_program_that_ran_from_one_that_did_not(runtime, made, traced, finished):
    id = runtime.create(made)
    program = Traced(runtime.state(id)["pid"])
    command = os.posix_spawn(
        (words := runtime.command("start", id))[0], words, os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 2, str(traced.err), os.O_WRONLY | os.O_CREAT, 0o600)],
    )  # fmt: skip
    # it stays a zombie, which tells whether it has executed anything, until we wait for it
    os.kill(program.until_execve("sleep", finished=finished), signal.SIGKILL)
    if command not in program.ended:
        program.ended[command] = os.waitpid(command, 0)[1]
    status = os.waitstatus_to_exitcode(program.ended[command])
    if finished:
        assert (status, traced.said) == (0, "")
        assert runtime.state(id)["status"] == "stopped"
        runtime.ok("delete", id)
    else:
        assert status == 1
        assert NOT_RUN in traced.said
    assert runtime.ids() == []
    program.wait_for(program.pid)


@BEGIN_AND_END
@pytest.mark.parametrize("verb", ["create", "run"])
def test_a_hook_that_is_killed_there_is_an_error(runtime, made, traced, verb, finished):
    made.edit(HOOK)
    id = runtime.new_id()
    status = killed_within_execve(traced(verb, "-b", made.path, id), "true", finished)
    assert status == 1
    assert "createRuntime hook #0" in traced.said
    assert "signal 9" in traced.said
    assert runtime.ids() == []


# --- the command is killed -----------------------------------------------------------------------


@BEGIN_AND_END
@RUNS
def test_a_command_that_is_killed_meanwhile(runtime, made, traced, flags, changes, finished):
    made.edit(changes)
    id = runtime.new_id()
    command = traced("run", *flags, "-b", made.path, id)
    command.until_execve("sleep", finished=finished)
    if command.pid not in command.ended:  # vfork(2) lets it continue before the end of execve(2)
        command.kill(command.pid)
    runtime.ok("delete", "--force", id)
    assert runtime.ids() == []


@BEGIN_AND_END
def test_an_exec_that_is_killed_meanwhile(runtime, bundle, traced, finished):
    id = runtime.started(bundle("sleep 100"))
    command = traced("exec", id, PROGRAM, "7")
    program = command.until_execve("sleep", finished=finished)
    command.kill(command.pid)
    assert runtime.state(id)["status"] == "running"
    with subprocess.Popen(runtime.command("delete", "--force", id)) as deleting:
        command.wait_for(program)
        assert deleting.wait(LIMIT) == 0


@BEGIN_AND_END
def test_a_start_that_is_killed_meanwhile(runtime, made, finished):
    id = runtime.create(made)
    program = Traced(runtime.state(id)["pid"])
    with subprocess.Popen(runtime.command("start", id)) as command:
        program.until_execve("sleep", finished=finished)
        command.kill()  # if it has not ended, and been reaped with the program's processes
    runtime.ok("delete", "--force", id)
    assert runtime.ids() == []


@BEGIN_AND_END
@pytest.mark.parametrize("words", ["create", "run", "exec", "start", "delete --force"])
def test_a_command_that_is_killed_in_its_own_execve_has_done_nothing(
    runtime, made, traced, words, finished
):
    id = runtime.new_id()
    if words not in ("create", "run"):
        runtime.ok("create", "-b", made.path, id)
    more = {"exec": ["true"]}.get(words, [])
    flags = ["-b", made.path] if words in ("create", "run") else []
    command = traced(*words.split(), *flags, id, *more)
    name = os.path.basename(runtime.command()[0])
    command.kill(command.until_execve(name, finished=finished))
    assert runtime.ids() == ([] if flags else [id])
    runtime.ok("delete", "--force", id)
