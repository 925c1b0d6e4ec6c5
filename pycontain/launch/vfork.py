"""
A child that shares this process's memory until it executes its program. vfork(2), clone(2).

Nothing is copied: the parent sleeps meanwhile, and then finds in memory what the child left there,
such as an error or the times of its steps. What the child changes in memory for its own protection
is restored. Descriptors, working directory and signals are not shared, but objects that hold a
descriptor's number are: the child must not close one that the parent still uses.
"""

from __future__ import annotations

import gc

from ..cgroup.tree import Cgroup
from ..errors import PycontainError
from ..init import guard, program
from ..init.context import Context
from ..init.diagnose import refusal
from ..kernel import calls, vfork
from ..kernel import const as c
from ..kernel.descriptors import close_lock_copies
from ..kernel.files import never_executed
from ..lean import os
from ..plan.steps import Execute
from ..plan.walk import Peer, Turn, child_step, in_step, parent_step, walk
from ..wire import EXIT_FAILED
from .child import Child, clone_flags, restore_dumpable
from .recover import death

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel._vfork import Program
    from ..plan.steps import Spawn, Step
    from .launch import ContainerLaunch
    from .recover import Recovery


def make_child(step: Spawn, launch: ContainerLaunch) -> None:
    """
    Create the child, which carries out the rest of the plan, and sleep until the program runs.

    Raises what the steps raise, once the child has exited, and KernelError if none can be created.
    """
    recovery = launch.caller.recovery(launch.options, launch.state)
    flags, cgroup = clone_flags(step, launch), launch.cgroup
    started = _try_once(launch, flags, recovery, cgroup.fd)
    if not started and isinstance(cgroup, Cgroup):  # as in `fork.make_child`
        launch.reap_child()
        entrance = cgroup.entrance()
        try:
            started = _try_once(launch, flags, recovery, -1, entrance)
        finally:
            os.close(entrance)
    if not started:
        raise death("was killed as it was created")


def _try_once(
    launch: ContainerLaunch, flags: int, recovery: Recovery, cgroup: int, entrance: int = -1
) -> bool:
    """
    Create one child; False if it was killed before it could run.

    flags     for clone3
    recovery  what this process executes if the child is killed during its steps
    cgroup    a descriptor of the cgroup to create it in, -1 for the caller's
    entrance  what `Cgroup.entrance` opened, for a cgroup to enter afterwards; -1 for none
    """
    turns, execute = _split(launch.turns[1:])
    context = Context(None)
    launch.fill(context)
    lifeline, ours = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    context.kept = (lifeline, launch.directory.process_file)
    runs = False

    def live(pid: int, pidfd: int) -> Program:
        nonlocal runs
        runs = True
        close_lock_copies()
        os.close(ours)
        launch.close_copy()
        launch.add_child(Child(pid, pidfd))
        if entrance >= 0:
            os.write(entrance, b"0")  # the writing process
        return _carry_out(turns, execute, launch, context, lifeline)

    def refuse(number: int) -> None:
        raise in_step(refusal(context.program, number, context.inside), execute.name)

    try:
        with _Shared(recovery.inherited):
            child = vfork.spawn(flags, cgroup, live, refuse, recovery.command, launch.caller.until)
    except PycontainError:
        raise
    except Exception as error:  # from C, such as for a NUL in an argument
        raise in_step(error, execute.name) from None
    finally:
        os.close(lifeline)
        os.close(ours)
    if not runs:
        launch.add_child(Child(*child))
    elif never_executed(launch.child.pid):
        raise death("was killed before its program ran", execute.name)
    return runs


def _split(turns: tuple[Turn, ...]) -> tuple[tuple[Turn, ...], Execute]:
    """The turns without their last step, and that step, which is performed in C."""
    *before, last = turns
    *others, _ = last.steps
    [execute] = [step for step in last.steps if isinstance(step, Execute)]
    return (*before, last.replace(steps=tuple(others))), execute


def _carry_out(
    turns: tuple[Turn, ...],
    execute: Execute,
    launch: ContainerLaunch,
    context: Context,
    lifeline: int,
) -> Program:
    """In the child: perform the steps of both sides; returns what to execute."""

    def perform_parents(step: Step) -> None:
        if _has_ended(lifeline):
            os._exit(EXIT_FAILED)  # as a forked child does when its parent has exited
        parent_step.perform(step, launch)

    def perform_childs(step: Step) -> None:
        child_step.perform(step, context)

    performers = {"parent": perform_parents, "child": perform_childs}
    try:
        walk(turns, performers, Peer(), launch.times)
        return program.command(execute, context)
    except Exception as error:
        failed = in_step(error, execute.name)
    # raised here, without the frames of the original: objects in them, such as sockets, must be
    # closed in the child
    raise failed


def _has_ended(lifeline: int) -> bool:
    """Whether the other end of a pipe is closed."""
    try:
        return os.read(lifeline, 1) == b""
    except BlockingIOError:
        return False


class _Shared:
    """
    Restores what the child changes in the memory that it shares.

    inherited  descriptors that the recovery, and nothing else, inherits
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
