"""The child's step for a filter that notifies an agent (SCMP_ACT_NOTIFY)."""

from __future__ import annotations

from ..lean import os
from ..plan.steps import notify
from ..plan.walk import child_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context


@child_step(notify.CloseListener)
def close_listener(step: notify.CloseListener, context: Context) -> None:
    """Close the listener, which was sent to the agent."""
    os.close(context.listener)
