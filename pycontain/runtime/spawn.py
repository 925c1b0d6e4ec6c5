"""
The child is born in its cgroup and its namespaces. clone(2), namespaces(7).

`spawn` makes one with memory of its own, as fork(2) does; `lend` one that borrows this process's
until it executes its program, as vfork(2) does. The plan says which.
"""

from __future__ import annotations

import gc

from .. import os
from ..errors import KernelError
from ..init import guard
from ..init.box import Box
from ..init.diagnose import refusal
from ..init.main import in_step, live, live_borrowing
from ..kernel import borrow, calls
from ..kernel import const as c
from ..plan import steps
from ..wire.sync import Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..kernel._borrow import Program
    from .rescue import Rescue

_FAILED = 255


class Child:
    """
    A container's first process, as its parent holds it.

    channel  to it; None for one in borrowed memory
    """

    __slots__ = ("channel", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int, channel: Channel | None = None) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.channel = channel

    @property
    def wire(self) -> Channel:
        """The channel to a child that has memory of its own."""
        assert self.channel is not None
        return self.channel

    def let_go(self) -> None:
        """Close the channel; the pidfd stays."""
        if self.channel is not None:
            self.channel.close()


def spawn(
    step: steps.Spawn,
    rest: tuple[steps.Step, ...],
    cgroup: int,
    flags: int,
    furnish: Callable[[Box], None],
    let_go: Callable[[], None],
    joined: dict[int, int],
) -> Child:
    """
    Make the child, which carries out its part of the rest.

    cgroup   a descriptor of the cgroup it is born in, -1 for the caller's
    flags    for clone3: the new namespaces, and CLONE_PARENT
    furnish  fills the child's box
    let_go   closes, in the child, what is the parent's alone
    joined   descriptors of the namespaces to join
    """
    _load_for(rest)
    ours, theirs = Channel.pair()
    box = Box(theirs)
    furnish(box)
    gc.freeze()  # objects that are never touched stay shared pages
    try:
        with _Detour(step, joined):
            pid, pidfd = calls.clone3(flags, cgroup)
            if pid == 0:
                try:
                    ours.close()  # else the child itself would keep its pipe from ending
                    let_go()
                    live(rest, box)
                finally:  # whatever happens, the child never goes on as the parent
                    os._exit(_FAILED)
    except BaseException:
        ours.close()
        theirs.close()
        raise
    theirs.close()
    return Child(pid, pidfd, ours)


def lend(
    rest: tuple[steps.Step, ...],
    cgroup: int,
    flags: int,
    furnish: Callable[[Box], None],
    be_born: Callable[[Child], None],
    meanwhile: Callable[[steps.Step], None],
    rescue: Rescue,
    kept: int,
    times: list[tuple[str, str, int]],
) -> None:
    """
    Make the child and sleep until it has executed its program.

    rest       the steps from the child's first one on
    cgroup, flags, furnish  as for spawn
    be_born    called in the child, first of all
    meanwhile  called in the child for each step of the parent
    rescue     what this process becomes when the child is killed among its steps
    kept       a descriptor that meanwhile needs, whatever root the child has by then
    times      (side, step, microseconds) of the child's steps are added here

    Raises what be_born and the steps raise, once the child is gone.
    """
    _load_for(rest)
    box = Box(None)
    furnish(box)
    lifeline, ours = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    box.kept = (lifeline, kept)

    def live_here(pid: int, pidfd: int) -> Program:
        os.close(ours)
        be_born(Child(pid, pidfd))
        return live_borrowing(rest, box, times, meanwhile_together)

    def meanwhile_together(step: steps.Step) -> None:
        if _has_ended(lifeline):
            os._exit(_FAILED)  # as the child that waits for its parent does
        meanwhile(step)

    def refuse(number: int) -> None:
        try:
            error: Exception = refusal(box.program, number, box.inside)
        except Exception as another:
            error = another
        raise in_step(error, rest[-1].name)

    try:
        with _Lent(rescue.heirs):
            borrow.spawn(flags, cgroup, live_here, refuse, rescue.command)
    finally:
        os.close(lifeline)
        os.close(ours)


def _has_ended(lifeline: int) -> bool:
    """Whether nobody holds the other end of a pipe any more."""
    try:
        return os.read(lifeline, 1) == b""
    except BlockingIOError:
        return False


class _Lent:
    """What a child that borrows our memory changes in it, put back; the heirs of a rescue."""

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
        _restore_dumpable(self.dumpable)
        if self.collects:
            gc.enable()


def _load_for(rest: tuple[steps.Step, ...]) -> None:
    """Load now what the child's steps import late: by then imports are sealed."""
    for step in rest:
        match step:
            case steps.RunContainerHooks():
                import select  # noqa: F401

                from ..wire import hooks  # noqa: F401
            case steps.OpenTerminal():
                from ..kernel import sockets, tty  # noqa: F401
            case steps.MountFilesystem(copy_up=True):
                from ..init import copying  # noqa: F401


class _Detour:
    """
    Namespaces that only children enter: the parent goes there, forks and comes back.

    In a pid namespace that others live in they see the child from its first moment, so it is born
    with nobody allowed to look into it (CVE-2016-9962).
    """

    def __init__(self, step: steps.Spawn, joined: dict[int, int]) -> None:
        self.step = step
        self.joined = joined
        self.back: list[tuple[int, int]] = []
        self.dumpable = calls.prctl(c.PR_GET_DUMPABLE, name="PR_GET_DUMPABLE")

    def __enter__(self) -> None:
        try:
            self._go()
        except BaseException:  # Python calls __exit__ only after an __enter__ that succeeds
            self.__exit__()
            raise

    def _go(self) -> None:
        if self.step.join_pid:
            _set_dumpable(0)
            self._remember("pid", c.CLONE_NEWPID)
            calls.setns(self.joined[c.CLONE_NEWPID], c.CLONE_NEWPID)
        if self.step.time_namespace:
            self._remember("time", c.CLONE_NEWTIME)
            calls.unshare(c.CLONE_NEWTIME)
            _set_offsets(self.step.time_offsets)

    def __exit__(self, *_: object) -> None:
        for fd, kind in self.back:
            calls.setns(fd, kind)
            os.close(fd)
        _restore_dumpable(self.dumpable)

    def _remember(self, name: str, kind: int) -> None:
        self.back.append((os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), kind))


def _set_dumpable(value: int) -> None:
    calls.prctl(c.PR_SET_DUMPABLE, value, name="PR_SET_DUMPABLE")


def _restore_dumpable(value: int) -> None:
    """Undo _set_dumpable(0); only 1 can be set again, 2 is the kernel's to set. prctl(2)."""
    if value == 1:
        _set_dumpable(1)


def _set_offsets(offsets: dict[str, tuple[int, int]]) -> None:
    """Clock offsets, set while nobody is inside yet. time_namespaces(7)."""
    if not offsets:
        return
    lines = [f"{clock} {seconds} {nano}" for clock, (seconds, nano) in offsets.items()]
    fd = os.open("/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, "\n".join(lines).encode())
    except OSError as error:
        raise KernelError.of(
            "write /proc/self/timens_offsets", error.errno or 0, "linux.timeOffsets"
        ) from None
    finally:
        os.close(fd)
