"""The parent's step for a program in a virtual machine."""

from __future__ import annotations

from ..plan.steps import vm
from ..plan.walk import parent_step
from ..vm.contained import Monitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .launch import Launch


@parent_step(vm.LoadMonitor)
def load_monitor(step: vm.LoadMonitor, launch: Launch) -> None:
    """Load the engine and open /dev/kvm, while both can be reached. Raises HostError."""
    launch.monitor = Monitor(step.engine)
