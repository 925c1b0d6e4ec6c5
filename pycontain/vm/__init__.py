"""
The KVM module: a small virtual machine monitor, and the same guests on an emulated processor.

    from pycontain import vm

    vm.run_flat(image, sink, vm.Hardware(memory=16 << 20), timeout=2)
    vm.run_program(["/bin/busybox", "uname"], world=vm.World(stdout=vm.Capture()), timeout=2)

Both may be called from several threads at once. Importing this package is cheap: names are loaded
on first use.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .board import Ending
    from .caps import Capabilities
    from .caps import read as capabilities
    from .guests import GUESTS
    from .linux.ending import ProgramEnding
    from .machine import GuestResult, Hardware, run_flat
    from .program import ProgramResult, World, run_program
    from .sink import Capture
    from .trace import Stats, Trace
    from .view import Volume

_HOMES = {
    "Ending": "board", "Capabilities": "caps", "capabilities": "caps", "GUESTS": "guests",
    "GuestResult": "machine", "Hardware": "machine", "run_flat": "machine",
    "ProgramEnding": "linux.ending", "ProgramResult": "program", "World": "program",
    "run_program": "program", "Capture": "sink", "Stats": "trace", "Trace": "trace",
    "Volume": "view",
}  # fmt: skip

__all__ = [
    "GUESTS",
    "Capabilities",
    "Capture",
    "Ending",
    "GuestResult",
    "Hardware",
    "ProgramEnding",
    "ProgramResult",
    "Stats",
    "Trace",
    "Volume",
    "World",
    "capabilities",
    "run_flat",
    "run_program",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f".{_HOMES[name]}", __name__)
    return getattr(module, "read" if name == "capabilities" else name)
