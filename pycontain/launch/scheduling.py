"""The parent sets the scheduling of a child that may not set it itself."""

from __future__ import annotations

from ..init.scheduling import schedule
from ..plan.steps import scheduling
from ..plan.walk import parent_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .launch import Launch


@parent_step(scheduling.SetSchedulerOutside)
def set_scheduler(step: scheduling.SetSchedulerOutside, launch: Launch) -> None:
    """Set the CPU scheduling of the child."""
    schedule(step.wanted, launch.child.pid)
