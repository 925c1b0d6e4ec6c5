"""
A forked child, created in its cgroup and its namespaces. clone(2), namespaces(7).

It has memory of its own, unlike one of `launch.vfork`; `plan.vfork` decides between them.
"""

from __future__ import annotations

import errno
import gc

from ..cgroup.tree import Cgroup
from ..errors import KernelError
from ..init.context import Context
from ..init.main import live
from ..kernel import calls
from ..kernel import const as c
from ..kernel.descriptors import close_lock_copies, close_owned
from ..lean import os
from ..plan import steps
from ..wire import EXIT_FAILED, sync
from .child import Child, clone_flags
from .launch import ContainerLaunch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

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
    if isinstance(launch, ContainerLaunch) and _has("wait for start", rest):
        launch.start_fifos = sync.Channel(*launch.directory.make_fifos())
    cgroup = launch.cgroup
    channel = _born_inside(step, launch, cgroup.fd)
    if channel is None and isinstance(cgroup, Cgroup):
        channel = _forked(step, launch, -1, held=True)
        sync.is_alive(channel)
        cgroup.enter(launch.child.pid)  # before the child creates others, as in a pid namespace
        sync.pass_turn(channel)


def _born_inside(step: steps.Spawn, launch: Launch, cgroup: int) -> sync.Channel | None:
    """The channel to a child that was created in the cgroup; None if that is impossible."""
    try:
        channel = _forked(step, launch, cgroup)
    except KernelError as error:
        if error.errno != errno.EACCES or cgroup < 0:
            raise
        return None  # a user may not move a process out of a cgroup of the host's root
    if sync.is_alive(channel) or cgroup < 0:
        return channel
    channel.close()
    launch.reap_child()
    return None


def _has(name: str, turns: Sequence[Turn]) -> bool:
    return any(step.name == name for turn in turns for step in turn.steps)


def _forked(step: steps.Spawn, launch: Launch, cgroup: int, *, held: bool = False) -> sync.Channel:
    """
    Fork once; returns the channel to the child.

    cgroup  a descriptor of the cgroup to create it in, -1 for the caller's
    held    the child waits for its turn before it does anything
    """
    ours, theirs = sync.Channel.pair(launch.caller.until)
    if _has("enter", launch.turns):
        from .joined_pids import Entrance

        launch.entrance = Entrance(launch.caller.until)
        launch.on_release(launch.entrance.close)
    context = Context(theirs)
    launch.fill(context)
    if step.enters:
        context.network = -1
    gc.freeze()  # the child's collector does not write to these objects: their pages stay shared
    try:
        with _Inherited(step):
            pid, pidfd = _clone(step, launch, context, cgroup)
            if pid == 0:
                _live_as_child(launch, context, ours, theirs, held)
    except BaseException:
        ours.close()
        theirs.close()
        raise
    theirs.close()
    launch.add_child(Child(pid, pidfd))
    launch.forked, launch.channel = True, ours
    launch.on_release(ours.close)
    if launch.entrance is not None:
        launch.entrance.theirs.close()
        launch.entrance.expect_from(pid)
    return ours


def _live_as_child(
    launch: Launch, context: Context, parents: sync.Channel, own: sync.Channel, held: bool
) -> NoReturn:
    """Perform the child's steps, after closing the parent's ends; held: wait for a turn first."""
    try:
        parents.close()  # or the child itself would hold its pipe open
        if launch.entrance is not None:
            launch.entrance.channel.close()
        launch.close_copy()
        sync.report_alive(own)
        if held:
            sync.await_turn(own)
        live(launch.turns[1:], context)
    finally:  # whatever happens, the child must not continue as the parent
        os._exit(EXIT_FAILED)


def _clone(step: steps.Spawn, launch: Launch, context: Context, cgroup: int) -> tuple[int, int]:
    """As `calls.clone3`; each new process first closes its copies of our locks."""
    if not step.enters:
        created = calls.clone3(clone_flags(step, launch), cgroup)
        if created[0] == 0:
            close_lock_copies()
        return created
    from . import intermediate

    return intermediate.create(step, launch, context, cgroup)


class _Inherited:
    """
    What a child inherits: CPUs, and a time namespace, which only children enter.

    The parent sets them for the time of the fork.
    """

    def __init__(self, step: steps.Spawn) -> None:
        self.step = step
        self.back = -1
        self.cpus: set[int] = set()

    def __enter__(self) -> None:
        try:
            self._set()
        except BaseException:  # Python calls __exit__ only after an __enter__ that succeeds
            self.__exit__()
            raise

    def _set(self) -> None:
        if self.step.cpus:
            self.cpus = os.sched_getaffinity(0)
            calls.set_affinity(self.step.cpus, "process.execCPUAffinity.initial")
        if self.step.time_namespace:
            self.back = os.open("/proc/self/ns/time", os.O_RDONLY | os.O_CLOEXEC)
            calls.unshare(c.CLONE_NEWTIME)
            _set_offsets(self.step.time_offsets)

    def __exit__(self, *_: object) -> None:
        if self.back >= 0:
            try:
                calls.setns(self.back, c.CLONE_NEWTIME)
            finally:
                close_owned(self, "back")
        if self.cpus:
            os.sched_setaffinity(0, self.cpus)


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
