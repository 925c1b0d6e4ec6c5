"""Hooks that run in the container's namespaces. config.md, POSIX-platform Hooks."""

from __future__ import annotations

from .. import hooks
from ..lean import os
from ..plan.steps.hooks import RunContainerHooks
from ..plan.walk import child_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context


@child_step(RunContainerHooks)
def run_hooks(step: RunContainerHooks, context: Context) -> None:
    """Run hooks in the container's namespaces, with this process's pid as seen there."""
    status = "created" if step.kind == "startContainer" else "creating"
    if step.kind == "startContainer":  # runs the container's programs, in its environment
        os.environ.clear()
        os.environ.update({os.fsencode(k): os.fsencode(v) for k, v in context.env.items()})
    if step.kind == "createContainer" and context.root is not None:
        os.fchdir(context.root.fd)  # as runc does, so that relative paths start in the rootfs
    state = {**context.hook_state, "status": status, "pid": os.getpid()}
    hooks.run_all(step.hooks, step.kind, state)
