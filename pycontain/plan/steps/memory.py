"""The step that sets a memory policy. config-linux.md, Memory policy."""

from __future__ import annotations

from .base import Step


class SetMemoryPolicy(Step):
    """The NUMA nodes that the process's memory is on."""

    name = "memory policy"
    mode: int  # with the flags
    nodes: tuple[int, ...]

    def what(self) -> str:
        nodes = f" on nodes {', '.join(map(str, self.nodes))}" if self.nodes else ""
        return f"set memory policy {self.mode:#x}{nodes}"
