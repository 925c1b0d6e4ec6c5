"""The child's step for linux.memoryPolicy."""

from __future__ import annotations

from ..kernel.mempolicy import set_mempolicy
from ..plan.steps import memory
from ..plan.walk import child_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context


@child_step(memory.SetMemoryPolicy)
def set_memory_policy(step: memory.SetMemoryPolicy, context: Context) -> None:
    """Set the policy, which the program and its children inherit."""
    set_mempolicy(step.mode, step.nodes, step.why)
