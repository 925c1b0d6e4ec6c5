"""
One fork: the child is born in its cgroup and its namespaces. clone(2), namespaces(7).

It has memory of its own, unlike the child that `runtime.lend` makes; the plan says which.
"""

from __future__ import annotations

import gc

from .. import os
from ..errors import KernelError
from ..init.box import Box
from ..init.main import live
from ..kernel import calls
from ..kernel import const as c
from ..plan import steps
from ..wire.sync import Channel, report_alive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


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
    load_for(rest)
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
                    report_alive(theirs)
                    live(rest, box)
                finally:  # whatever happens, the child never goes on as the parent
                    os._exit(_FAILED)
    except BaseException:
        ours.close()
        theirs.close()
        raise
    theirs.close()
    return Child(pid, pidfd, ours)


def load_for(rest: tuple[steps.Step, ...]) -> None:
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
    Namespaces that only children enter, and CPUs: the parent goes there, forks and comes back.

    In a pid namespace that others live in they see the child from its first moment, so it is born
    with nobody allowed to look into it (CVE-2016-9962).
    """

    def __init__(self, step: steps.Spawn, joined: dict[int, int]) -> None:
        self.step = step
        self.joined = joined
        self.back: list[tuple[int, int]] = []
        self.cpus: set[int] = set()
        self.dumpable = calls.prctl(c.PR_GET_DUMPABLE, name="PR_GET_DUMPABLE")

    def __enter__(self) -> None:
        try:
            self._go()
        except BaseException:  # Python calls __exit__ only after an __enter__ that succeeds
            self.__exit__()
            raise

    def _go(self) -> None:
        if self.step.cpus:
            self.cpus = os.sched_getaffinity(0)
            calls.set_affinity(self.step.cpus, "process.execCPUAffinity.initial")
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
        if self.cpus:
            os.sched_setaffinity(0, self.cpus)
        restore_dumpable(self.dumpable)

    def _remember(self, name: str, kind: int) -> None:
        self.back.append((os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), kind))


def _set_dumpable(value: int) -> None:
    calls.prctl(c.PR_SET_DUMPABLE, value, name="PR_SET_DUMPABLE")


def restore_dumpable(value: int) -> None:
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
