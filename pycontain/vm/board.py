"""
What the processors of a tiny guest are connected to: memory, ports, memory-mapped registers.

A device answers `read(offset, size)` and `write(offset, size, value)`. Engines call the four
methods of the board; without a device, reads return all ones and writes are ignored, as on a PC.
"""

from __future__ import annotations

from ..lean.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from .memory import Memory

    class Device(Protocol):
        """Registers behind ports or addresses; sizes are 1, 2, 4 or 8 bytes."""

        def read(self, offset: int, size: int) -> int: ...
        def write(self, offset: int, size: int, value: int) -> None: ...


class Ending(Record):
    """
    How a guest ended.

    why     "exit" (the guest gave a status), "halt", "reset" or "quit" (by the user)
    status  the exit status, 0 to 255
    """

    why: str
    status: int = 0


class Board:
    """Memory and devices of one machine; ending is None until it has ended."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.ending: Ending | None = None
        self._ports: dict[int, tuple[Device, int]] = {}
        self.windows: list[tuple[int, int, Device]] = []

    def plug(self, first: int, count: int, device: Device) -> None:
        """Give a device the ports first to first + count - 1."""
        self._ports.update({first + offset: (device, offset) for offset in range(count)})

    def plug_window(self, address: int, size: int, device: Device) -> None:
        """Give a device a range of guest physical addresses outside of memory."""
        self.windows.append((address, size, device))

    def end(self, why: str, status: int = 0) -> None:
        """Stop the machine after this exit; the first ending counts."""
        if self.ending is None:
            self.ending = Ending(why=why, status=status)

    def port_read(self, port: int, size: int) -> int:
        """IN: size bytes of a port."""
        device, offset = self._ports.get(port, (_NOTHING, 0))
        return device.read(offset, size) & (1 << 8 * size) - 1

    def port_write(self, port: int, size: int, value: int) -> None:
        """OUT: size bytes to a port."""
        device, offset = self._ports.get(port, (_NOTHING, 0))
        device.write(offset, size, value)

    def memory_read(self, address: int, size: int) -> int:
        """A load from an address without memory."""
        device, offset = self._window(address, size)
        return device.read(offset, size) & (1 << 8 * size) - 1

    def memory_write(self, address: int, size: int, value: int) -> None:
        """A store to an address without memory."""
        device, offset = self._window(address, size)
        device.write(offset, size, value)

    def _window(self, address: int, size: int) -> tuple[Device, int]:
        for start, length, device in self.windows:
            if start <= address and address + size <= start + length:
                return device, address - start
        return _NOTHING, 0


class _Nothing:
    """Addresses without a device."""

    def read(self, offset: int, size: int) -> int:  # noqa: ARG002
        return (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        pass


_NOTHING = _Nothing()
