"""
A child that borrows this process's memory until it executes its program, as one of vfork(2) does.

Nothing is copied: the parent sleeps meanwhile, and what the child leaves in memory, an error or the
times of its steps, is simply there. What the child changes for its own safety is put back. Its
descriptors, its working directory and its signals are its own all the time: an object that holds
the number of a descriptor must not be closed in here when it is the parent's, too.
"""

from __future__ import annotations

import gc

from .. import os
from ..errors import PycontainError
from ..init import guard
from ..init.box import Box
from ..init.diagnose import refusal
from ..init.main import in_step, live_borrowing
from ..kernel import borrow, calls
from ..kernel import const as c
from .spawn import Child, load_for, restore_dumpable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel._borrow import Program
    from ..plan import steps
    from .life import Life
    from .rescue import Rescue

_FAILED = 255


def lend(
    life: Life,
    rest: tuple[steps.Step, ...],
    flags: int,
    rescue: Rescue,
    cgroup: int,
    entrance: int = -1,
) -> bool:
    """
    Make the child and sleep until it has executed its program; False if it never came to life.

    life      whose child it is, and who does the steps of the parent
    rest      all that is left of the plan
    flags     for clone3: the new namespaces, and CLONE_PARENT
    rescue    what this process becomes when the child is killed among its steps
    cgroup    a descriptor of the cgroup it is born in, -1 for the caller's
    entrance  of the cgroup that it enters then, -1 for none: what `Cgroup.entrance` opens

    Raises what the steps raise, once the child is gone, and KernelError when there is none.
    """
    load_for(rest)
    box = Box(None)
    life.furnish(box)
    lifeline, ours = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    box.kept = (lifeline, life.directory.process_file)

    def live(pid: int, pidfd: int) -> Program:
        os.close(ours)
        life.directory.close_copy()
        life.child = Child(pid, pidfd)
        if entrance >= 0:
            os.write(entrance, b"0")  # the writer
        return live_borrowing(rest, box, life.times, meanwhile)

    def meanwhile(step: steps.Step) -> None:
        if _has_ended(lifeline):
            os._exit(_FAILED)  # as the child that waits for its parent does
        life.do(step)

    def refuse(number: int) -> None:
        try:
            error: Exception = refusal(box.program, number, box.inside)
        except Exception as another:
            error = another
        raise in_step(error, rest[-1].name)

    try:
        with _Lent(rescue.heirs):
            child = borrow.spawn(flags, cgroup, live, refuse, rescue.command)
    except PycontainError:
        raise
    except Exception as error:  # of C, such as a NUL in what the program is given
        raise in_step(error, rest[-1].name) from None
    finally:
        os.close(lifeline)
        os.close(ours)
    lived = life.child is not None
    life.child = life.child or Child(*child)
    return lived


def _has_ended(lifeline: int) -> bool:
    """Whether nobody holds the other end of a pipe any more."""
    try:
        return os.read(lifeline, 1) == b""
    except BlockingIOError:
        return False


class _Lent:
    """
    What the child changes in our memory, put back.

    heirs  descriptors that a rescue, and it alone, inherits
    """

    def __init__(self, heirs: tuple[int, ...]) -> None:
        self.heirs = heirs

    def __enter__(self) -> None:
        self.collects = gc.isenabled()
        self.dumpable = calls.prctl(c.PR_GET_DUMPABLE, name="PR_GET_DUMPABLE")
        for fd in self.heirs:
            os.set_inheritable(fd, True)

    def __exit__(self, *_: object) -> None:
        guard.unseal()
        for fd in self.heirs:
            os.set_inheritable(fd, False)
        restore_dumpable(self.dumpable)
        if self.collects:
            gc.enable()
