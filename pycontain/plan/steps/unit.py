"""The parent's steps for the cgroup manager "systemd"."""

from __future__ import annotations

from .base import ParentStep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..systemd import Property, Unit


class FindUnit(ParentStep):
    """
    Connect to systemd and find out where the cgroup will be, before there is anything to undo.

    user  whether the manager is the user's
    """

    name = "unit"
    unit: Unit
    user: bool

    def what(self) -> str:
        whose = "the user's" if self.user else "the system's"
        return f"connect to {whose} systemd, for the unit {self.unit.name}"


class StartUnit(ParentStep):
    """A scope cannot exist without a process: it is started with the child, which waits."""

    name = "start unit"
    unit: Unit
    id: str
    properties: tuple[Property, ...]

    def what(self) -> str:
        kind = "slice" if self.unit.is_slice else "scope"
        limits = ", ".join(f"{name} = {value[1]!r}" for name, value in self.properties)
        more = f", with {limits}" if limits else ""
        return f"start the {kind} {self.unit.name} in {self.unit.slice}{more}"
