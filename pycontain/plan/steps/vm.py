"""The steps of a container whose program runs in a virtual machine, or on an emulated processor."""

from __future__ import annotations

from .base import ParentStep
from .child import Execute


class LoadMonitor(ParentStep):
    """What the monitor needs is loaded and opened on the host: it loads nothing from inside."""

    name = "monitor"
    engine: str

    def what(self) -> str:
        device = ", open /dev/kvm" if self.engine == "kvm" else ""
        return f"load the monitor of a virtual machine and its engine {self.engine}{device}"


class RunInVm(Execute):
    """
    The child becomes the monitor of the program, and serves its system calls from inside.

    memory  bytes of the virtual machine
    """

    name = "vm"
    engine: str
    memory: int

    def what(self) -> str:
        room = f"{self.memory >> 20} MiB" if self.memory else "the default memory"
        return f"run {' '.join(self.args)} in a virtual machine ({self.engine}) with {room}"
