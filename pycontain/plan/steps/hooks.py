"""The steps that run hooks, on either side."""

from __future__ import annotations

from .base import ParentStep, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...spec.records import Hook


class RunHooks(ParentStep):
    """Hooks that run in the runtime's namespaces."""

    name = "hooks"
    kind: str
    hooks: tuple[Hook, ...]

    def what(self) -> str:
        return f"run the {self.kind} hooks: {', '.join(hook.path for hook in self.hooks)}"


class RunContainerHooks(Step):
    """Hooks that run in the container's namespaces."""

    name = "container hooks"
    kind: str
    hooks: tuple[Hook, ...]

    def what(self) -> str:
        return f"run the {self.kind} hooks: {', '.join(hook.path for hook in self.hooks)}"
