"""The step that moves network devices. config-linux.md, Network devices."""

from __future__ import annotations

from .base import ParentStep


class MoveDevices(ParentStep):
    """Network devices of the host become the container's, with their permanent addresses."""

    name = "network devices"
    names: dict[str, str]  # on the host -> in the container, where %d stands for a number
    joined: bool = False  # the network namespace existed before

    def what(self) -> str:
        moved = (name if name == new else f"{name} as {new}" for name, new in self.names.items())
        return f"move {', '.join(moved)} to the container's network namespace"
