"""The child enters existing namespaces."""

from __future__ import annotations

from ..kernel import calls
from ..kernel import const as c
from ..kernel.root import Root
from ..lean import os
from ..plan.steps import joining
from ..plan.walk import child_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context


@child_step(joining.JoinNamespaces)
def join_namespaces(step: joining.JoinNamespaces, context: Context) -> None:
    """Enter the namespaces that the parent opened."""
    for kind in step.kinds:
        calls.setns(context.namespaces[kind], kind)


@child_step(joining.JoinProcess)
def join_process(step: joining.JoinProcess, context: Context) -> None:
    """
    Enter all namespaces of a container at once, which also changes this process's root.

    Only children enter a pid namespace: no process inside sees this one (CVE-2016-9962).
    """
    if step.flags & c.CLONE_NEWUSER:
        from ..kernel import userns  # loaded by the parent

        userns.enter(context.target, step.flags, *context.root_ids)
    elif step.flags:
        calls.setns(context.target, step.flags)
    context.root = Root(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    context.close_others()
    if step.flags & c.CLONE_NEWPID:
        from . import joined_pids  # loaded by the parent

        joined_pids.prepare(context)
