"""
A child that shares this process's memory until it executes its program. vfork(2), clone(2).

Nothing is copied: the parent sleeps meanwhile, and what the child leaves in memory, an error or the
times of its steps, is simply there. What the child changes for its own safety is put back. Its
descriptors, its working directory and its signals are its own all the time: an object that holds
the number of a descriptor must not be closed in here when it is the parent's, too.
"""

from __future__ import annotations

import gc

from ..errors import PycontainError
from ..init import guard, program
from ..init.context import Context
from ..init.diagnose import refusal
from ..kernel import calls, vfork
from ..kernel import const as c
from ..lean import os
from ..plan.steps import Execute
from ..plan.walk import Peer, Turn, child_step, in_step, parent_step, walk
from ..wire import sync
from .fork import clone_flags, import_rare_steps, restore_dumpable
from .launch import Child, ContainerLaunch
from .recover import death

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel._vfork import Program
    from ..plan.steps import Spawn, Step
    from .launch import Launch
    from .recover import Recovery


def make_child(step: Spawn, launch: Launch) -> None:
    """
    Make the child, which carries out the rest of the plan, and sleep until the program runs.

    Raises what the steps raise, once the child is gone, and KernelError when there is none.
    """
    assert isinstance(launch, ContainerLaunch), "exec always forks"
    recovery = launch.caller.recovery(launch.options, launch.state)
    flags, cgroup = clone_flags(step, launch), launch.cgroup.fd
    lived = _lived(launch, flags, recovery, cgroup)
    if not lived and cgroup >= 0:  # as in `fork.make_child`
        launch.bury()
        entrance = launch.own_cgroup.entrance()
        try:
            lived = _lived(launch, flags, recovery, -1, entrance)
        finally:
            os.close(entrance)
    if not lived:
        raise death("was killed at its birth")


def _lived(
    launch: ContainerLaunch, flags: int, recovery: Recovery, cgroup: int, entrance: int = -1
) -> bool:
    """
    Make one child; False if it never came to life.

    flags     for clone3
    recovery  what this process becomes when the child is killed among its steps
    cgroup    a descriptor of the cgroup it is born in, -1 for the caller's
    entrance  of the cgroup that it enters then, -1 for none: what `Cgroup.entrance` opens
    """
    turns, execute = _split(launch.turns[1:])
    import_rare_steps(turns)
    context = Context(None)
    launch.fill(context)
    lifeline, ours = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    context.kept = (lifeline, launch.directory.process_file)
    made = False

    def live(pid: int, pidfd: int) -> Program:
        nonlocal made
        made = True
        os.close(ours)
        launch.close_copy()
        launch.child = Child(pid, pidfd)
        if entrance >= 0:
            os.write(entrance, b"0")  # the writer
        return _carry_out(turns, execute, launch, context, lifeline)

    def refuse(number: int) -> None:
        raise in_step(refusal(context.program, number, context.inside), execute.name)

    try:
        with _Shared(recovery.inherited):
            child = vfork.spawn(flags, cgroup, live, refuse, recovery.command)
    except PycontainError:
        raise
    except Exception as error:  # of C, such as a NUL in what the program is given
        raise in_step(error, execute.name) from None
    finally:
        os.close(lifeline)
        os.close(ours)
    if not made:
        launch.child = Child(*child)
    return made


def _split(turns: tuple[Turn, ...]) -> tuple[tuple[Turn, ...], Execute]:
    """The turns without their last step, which C carries out, and that step."""
    *before, last = turns
    *others, execute = last.steps
    assert isinstance(execute, Execute), "every run ends in execve"
    return (*before, last.replace(steps=tuple(others))), execute


def _carry_out(
    turns: tuple[Turn, ...],
    execute: Execute,
    launch: ContainerLaunch,
    context: Context,
    lifeline: int,
) -> Program:
    """In the child: do the steps of both sides; returns what is to be executed."""

    def perform_parents(step: Step) -> None:
        if _has_ended(lifeline):
            os._exit(sync.EXIT_FAILED)  # as a forked child does, which waits for its parent
        parent_step.perform(step, launch)

    def perform_childs(step: Step) -> None:
        child_step.perform(step, context)

    performers = {"parent": perform_parents, "child": perform_childs}
    try:
        walk(turns, performers, Peer(), launch.times)
        return program.command(execute, context)
    except Exception as error:
        failed = in_step(error, execute.name)
    # a new one, outside: what the first holds by its frames, such as sockets, ends in the child
    raise failed


def _has_ended(lifeline: int) -> bool:
    """Whether nobody holds the other end of a pipe any more."""
    try:
        return os.read(lifeline, 1) == b""
    except BlockingIOError:
        return False


class _Shared:
    """
    What the child changes in the memory that it shares, put back.

    inherited  descriptors that the recovery, and it alone, inherits
    """

    def __init__(self, inherited: tuple[int, ...]) -> None:
        self.inherited = inherited

    def __enter__(self) -> None:
        self.collects = gc.isenabled()
        self.dumpable = calls.prctl(c.PR_GET_DUMPABLE, name="PR_GET_DUMPABLE")
        for fd in self.inherited:
            os.set_inheritable(fd, True)

    def __exit__(self, *_: object) -> None:
        guard.allow_imports()
        for fd in self.inherited:
            os.set_inheritable(fd, False)
        restore_dumpable(self.dumpable)
        if self.collects:
            gc.enable()
