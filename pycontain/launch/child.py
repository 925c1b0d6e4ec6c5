"""A container's first process, and what creating it by fork and by vfork have in common."""

from __future__ import annotations

from ..init import guard, process, program  # noqa: F401 -- their steps
from ..kernel import calls
from ..kernel import const as c
from ..kernel.descriptors import close_owned
from ..plan import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..plan.walk import Turn
    from .launch import Launch


_COMMON = ("child", "parent")  # modules of `plan.steps` whose steps every launch imports


class Child:
    """A container's first process, as seen by its parent."""

    __slots__ = ("pid", "pidfd")

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.pidfd = pidfd

    def close_pidfd(self) -> None:
        """Close the pidfd; a second call does nothing."""
        close_owned(self, "pidfd")


def clone_flags(step: steps.Spawn, launch: Launch) -> int:
    """The flags for clone3: new namespaces except one created ahead of time, and the caller's."""
    exists = launch.caller.network >= 0 and not step.enters  # it belongs to our user namespace
    flags = step.flags & ~c.CLONE_NEWNET if exists else step.flags
    return flags | launch.caller.clone_flags


def import_performers(turns: Sequence[Turn]) -> None:
    """
    Import what performs the steps of these turns, before the child blocks imports.

    The steps of `plan.steps.X` are performed in `launch.X` and `init.X`.
    """
    for step in (step for turn in turns for step in turn.steps):
        module = type(step).__module__.rpartition(".")[2]
        if module not in _COMMON:
            package = "launch" if step.side == "parent" else "init"
            __import__(f"pycontain.{package}.{module}")
        match step.name:
            case "wait for start":
                from ..init import start  # noqa: F401
            case "join pids":
                from ..kernel import procfs  # noqa: F401
            case "mount" if getattr(step, "copy_up", False):
                from ..init import copying  # noqa: F401


def restore_dumpable(value: int) -> None:
    """Undo PR_SET_DUMPABLE; 2 cannot be restored, since only the kernel sets it. prctl(2)."""
    if value == 1:
        calls.prctl(c.PR_SET_DUMPABLE, 1, name="PR_SET_DUMPABLE")
