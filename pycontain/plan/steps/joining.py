"""The steps that enter existing namespaces, except for pid namespaces (`joined_pids`)."""

from __future__ import annotations

from .base import ParentStep, Step


class OpenNamespaces(ParentStep):
    """The namespaces to join are opened, and each checked to be of its type."""

    name = "open namespaces"
    paths: dict[int, str]  # CLONE_NEW* -> path
    foreign: dict[int, str] = {}  # those that must not be the runtime's: what changes in them

    def what(self) -> str:
        return "open " + ", ".join(self.paths.values())


class JoinNamespaces(Step):
    """Existing namespaces are entered, the mount namespace last, except for a pid namespace."""

    name = "join namespaces"
    kinds: tuple[int, ...]

    def what(self) -> str:
        return "enter the namespaces that were opened"


class JoinProcess(Step):
    """
    All namespaces of a container's process are entered at once (setns(2), 5.8).

    Only children enter a pid namespace: this process stays outside of it (EnterPids).
    """

    name = "join"
    flags: int
    names: tuple[str, ...]

    def what(self) -> str:
        return f"enter the container's namespaces: {', '.join(self.names)}"
