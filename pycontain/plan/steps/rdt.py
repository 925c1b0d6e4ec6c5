"""The steps for Intel RDT. config-linux.md, IntelRdt; resctrl in the kernel's documentation."""

from __future__ import annotations

from .base import ParentStep


class MakeRdtGroup(ParentStep):
    """The class of service is created, or checked if it exists."""

    name = "rdt group"
    group: str  # "" for one named after the container, "/" for the default one
    lines: tuple[str, ...]  # of its schemata
    monitored: bool = False  # whether it has a monitoring group of its own

    def what(self) -> str:
        name = self.group or "named after the container"
        more = f" with {', '.join(self.lines)}" if self.lines else ""
        return f"use the RDT class of service {name}{more}{', monitored' * self.monitored}"


class JoinRdtGroup(ParentStep):
    """The child is in its class before it does anything."""

    name = "join rdt group"

    def what(self) -> str:
        return "put the child into the RDT class of service"
