"""A container's first process, and what making one by fork and by vfork have in common."""

from __future__ import annotations

from ..init import (  # noqa: F401 -- their steps
    devices,
    guard,
    pivot,
    process,
    program,
    protection,
    rootfs,
)
from ..kernel import calls
from ..kernel import const as c
from ..kernel.descriptors import close_owned
from ..plan import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..plan.walk import Turn
    from ..wire.sync import Channel
    from .launch import Launch


# Which modules of `init` have the steps that few plans have.
RARE = {
    "close listener": "notify",
    "memory policy": "memory",
    "label": "labels",
    "mount label": "labels",
}


class Child:
    """
    A container's first process, as seen by its parent.

    channel  to it; None for a child of vfork, which needs none
    """

    __slots__ = ("channel", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int, channel: Channel | None = None) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.channel = channel

    def close_channel(self) -> None:
        """Close the channel; the pidfd stays."""
        if self.channel is not None:
            self.channel.close()

    def close_pidfd(self) -> None:
        """Close the pidfd; a second call does nothing."""
        close_owned(self, "pidfd")


def clone_flags(step: steps.Spawn, launch: Launch) -> int:
    """The flags for clone3: new namespaces except one created ahead of time, and the caller's."""
    ahead = launch.caller.network >= 0 and not step.enters  # it belongs to our user namespace
    made_ahead = c.CLONE_NEWNET if ahead else 0
    return (step.flags & ~made_ahead) | launch.caller.clone_flags


def import_rare_steps(turns: Sequence[Turn]) -> None:
    """
    Import what only some plans need, before the child blocks imports.

    `init.main` imports the steps that most plans have.
    """
    for step in (step for turn in turns for step in turn.steps):
        if step.name in RARE:
            __import__(f"pycontain.init.{RARE[step.name]}")
        match step:
            case steps.RunContainerHooks():
                import select  # noqa: F401

                from ..init import hooks  # noqa: F401
            case steps.AwaitStart():
                from ..init import start  # noqa: F401
            case steps.OpenTerminal():
                from ..kernel import sockets, tty  # noqa: F401
            case steps.EnterPids():
                from ..init import joined_pids  # noqa: F401
            case steps.JoinPids():
                from ..kernel import procfs  # noqa: F401
            case steps.MountFilesystem(copy_up=True):
                from ..init import copying  # noqa: F401


def restore_dumpable(value: int) -> None:
    """Undo PR_SET_DUMPABLE; only 1 can be restored: 2 can be set by the kernel alone. prctl(2)."""
    if value == 1:
        calls.prctl(c.PR_SET_DUMPABLE, 1, name="PR_SET_DUMPABLE")
