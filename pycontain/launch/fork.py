"""
A forked child, created in its cgroup and its namespaces. clone(2), namespaces(7).

It has memory of its own, unlike one of `launch.vfork`; `plan.vfork` decides between them.
"""

from __future__ import annotations

import gc

from ..cgroup.tree import Cgroup
from ..errors import KernelError
from ..init.context import Context
from ..init.main import live
from ..kernel import calls
from ..kernel import const as c
from ..lean import os
from ..plan import steps
from ..wire import sync
from .launch import Child, ContainerLaunch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..plan.walk import Turn
    from .launch import Launch


def make_child(step: steps.Spawn, launch: Launch) -> None:
    """
    Create the child, which carries out its turns of the plan from here on.

    Linux (6.14 and later) kills a process that is created in another cgroup than its parent's if
    cgroup.kill was used on only one of the two: it compares their counts of kills. In that case the
    child is created in the parent's cgroup and then moved, which is slower.
    """
    rest = launch.turns[1:]
    import_rare_steps(rest)
    if isinstance(launch, ContainerLaunch) and _awaits_start(rest):
        launch.start_fifos = sync.Channel(*launch.directory.make_fifos())
    cgroup = launch.cgroup
    channel = _forked(step, launch, cgroup.fd)
    if not sync.is_alive(channel) and isinstance(cgroup, Cgroup):
        channel.close()
        launch.reap_child()
        channel = _forked(step, launch, -1)
        cgroup.enter(launch.child.pid)
        sync.is_alive(channel)


def _awaits_start(turns: Sequence[Turn]) -> bool:
    return any(isinstance(step, steps.AwaitStart) for turn in turns for step in turn.steps)


def _forked(step: steps.Spawn, launch: Launch, cgroup: int) -> sync.Channel:
    """
    Fork once; returns the channel to the child.

    cgroup  a descriptor of the cgroup to create it in, -1 for the caller's
    """
    ours, theirs = sync.Channel.pair()
    context = Context(theirs)
    launch.fill(context)
    gc.freeze()  # the child's collector does not write to these objects: their pages stay shared
    try:
        with _Detour(step, launch.namespaces):
            pid, pidfd = calls.clone3(clone_flags(step, launch), cgroup)
            if pid == 0:
                try:
                    ours.close()  # or the child itself would hold its pipe open
                    launch.close_copy()
                    sync.report_alive(theirs)
                    live(launch.turns[1:], context)
                finally:  # whatever happens, the child must not continue as the parent
                    os._exit(sync.EXIT_FAILED)
    except BaseException:
        ours.close()
        theirs.close()
        raise
    theirs.close()
    launch.child = Child(pid, pidfd, ours)
    return ours


def clone_flags(step: steps.Spawn, launch: Launch) -> int:
    """The flags for clone3: new namespaces except one created ahead of time, and the caller's."""
    made_ahead = c.CLONE_NEWNET if launch.caller.network >= 0 else 0
    return (step.flags & ~made_ahead) | launch.caller.clone_flags


def import_rare_steps(turns: Sequence[Turn]) -> None:
    """
    Import what only some plans need, before the child blocks imports.

    `init.main` imports the steps that most plans have.
    """
    for step in (step for turn in turns for step in turn.steps):
        match step:
            case steps.RunContainerHooks():
                import select  # noqa: F401

                from ..init import hooks  # noqa: F401
            case steps.AwaitStart():
                from ..init import start  # noqa: F401
            case steps.OpenTerminal():
                from ..kernel import sockets, tty  # noqa: F401
            case steps.MountFilesystem(copy_up=True):
                from ..init import copying  # noqa: F401


class _Detour:
    """
    Namespaces that only children enter, and CPUs: the parent switches there, forks, switches back.

    Processes of a joined pid namespace see the child from its first moment, so it is created
    non-dumpable: none of them may inspect it (CVE-2016-9962).
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
    """Undo _set_dumpable(0); only 1 can be restored: 2 can be set by the kernel alone. prctl(2)."""
    if value == 1:
        _set_dumpable(1)


def _set_offsets(offsets: dict[str, tuple[int, int]]) -> None:
    """Set the clock offsets, before any process is inside. time_namespaces(7)."""
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
