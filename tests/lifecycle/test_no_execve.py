"""
A process that is killed in its execve has not become its program, although it reports nothing.

Its pipe is closed in both cases. A system call filter that kills whoever calls execve(2) stands for
all that can end a process then, such as a lack of memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pycontain.kernel import calls
from pycontain.kernel import const as c
from pycontain.kernel.files import never_executed
from tests.bundles import look, wait_until

pytestmark = pytest.mark.needs_root

FATAL = {
    "process.noNewPrivileges": True,
    "linux.seccomp": {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["execve", "execveat"], "action": "SCMP_ACT_KILL_PROCESS"}],
    },
}
HOOK = {"hooks": {"createRuntime": [{"path": "/bin/true"}]}}


@pytest.fixture
def subreaper() -> Iterator[None]:
    """What commands leave becomes our child, and so a zombie that stays until we wait for it."""
    calls.prctl(c.PR_SET_CHILD_SUBREAPER, 1, name="PR_SET_CHILD_SUBREAPER")
    yield
    calls.prctl(c.PR_SET_CHILD_SUBREAPER, 0, name="PR_SET_CHILD_SUBREAPER")
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        pass  # none is left


@pytest.mark.parametrize("more", [{}, HOOK], ids=["vfork", "fork"])
@pytest.mark.parametrize("flags", [(), ("--detach",)], ids=["foreground", "detached"])
def test_run_fails_if_the_child_dies_before_execve(runtime, bundle, flags, more):
    made, before = bundle("true", {**FATAL, **more}), look()
    said = runtime.refuses("run", *flags, "-b", made.path, runtime.new_id())
    assert "before its program ran" in said
    assert runtime.ids() == []
    assert look() == before


def test_start_fails_if_the_child_dies_before_execve(runtime, bundle, subreaper):
    before = look()
    id = runtime.create(bundle("true", FATAL))
    assert "died before its program ran" in runtime.refuses("start", id)
    assert runtime.ids() == []
    assert look().cgroups == before.cgroups


def test_a_program_that_ends_at_once_has_run(runtime, bundle, subreaper):
    id = runtime.create(bundle("true"))
    runtime.ok("start", id)
    runtime.wait_for_status(id, "stopped")
    runtime.ok("delete", id)


def test_a_zombie_shows_whether_it_has_executed_anything():
    idle = os.fork()
    if idle == 0:
        os._exit(255)
    program = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 255"], {})
    for pid in (idle, program):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert never_executed(idle)
    assert not never_executed(program)
    for pid in (idle, program):
        os.waitpid(pid, 0)
    wait_until(lambda: not never_executed(idle), "it is gone")
