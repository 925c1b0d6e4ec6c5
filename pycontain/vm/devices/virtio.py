"""
Virtio 1.2 over MMIO: the register window of a device, and the split rings in guest memory.

The guest can write to the rings at any time, so each address, index and length is checked when it
is used. A ring that breaks the rules puts the device into DEVICE_NEEDS_RESET (2.1.2); the machine
continues.
"""

from __future__ import annotations

from ...errors import GuestError
from ..memory import OutsideMemory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ..memory import Memory
    from .serial import Line

WINDOW, SIZE, FIRST_IRQ = 0xD000_0000, 0x1000, 5  # one window and line for each device

_MAGIC, _VERSION, _VENDOR = 0x7472_6976, 2, 0x6370_7970  # "virt", "pypc"
_QUEUE_MAX = 256
_CHAIN_MAX = 4 << 20  # bytes in one request: bounds the cost of one notification
_FEATURE_VERSION_1 = 1 << 32
_NEXT, _DEVICE_WRITES, _INDIRECT = 1, 2, 4  # flags of a descriptor, 2.7.5
_FEATURES_OK, _DRIVER_OK, _NEEDS_RESET = 8, 4, 64
_USED_BUFFER, _CONFIG_CHANGE = 1, 2  # bits of InterruptStatus


class BrokenRing(GuestError):
    """The guest's part of a ring breaks a rule."""


class Chain:
    """One request: the buffers that the device reads, and those that it writes."""

    __slots__ = ("head", "readable", "writable")

    def __init__(self, head: int) -> None:
        self.head = head
        self.readable: list[memoryview] = []
        self.writable: list[memoryview] = []


class Queue:
    """A split virtqueue (2.7): descriptor table, available ring, used ring."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.size = 0
        self.ready = False
        self.addresses = [0, 0, 0]  # descriptors, available, used
        self._seen = 0  # how many available entries were taken, modulo 65536

    def take(self) -> Iterator[Chain]:
        """
        The pending requests, each once.

        Raises BrokenRing or OutsideMemory when the ring breaks a rule.
        """
        available = self.addresses[1]
        pending = self._memory.load(available + 2, 2) - self._seen & 0xFFFF
        if pending > self.size:
            raise BrokenRing(f"has {pending} requests of at most {self.size}", at="virtio ring")
        for _ in range(pending):
            head = self._memory.load(available + 4 + self._seen % self.size * 2, 2)
            self._seen = self._seen + 1 & 0xFFFF
            yield self._chain(head)

    def _chain(self, head: int) -> Chain:
        chain, number, total = Chain(head), head, 0
        for _ in range(self.size):
            if number >= self.size:
                raise BrokenRing("is outside the table", at="virtio descriptor", value=str(number))
            entry = self._memory.slice(self.addresses[0] + 16 * number, 16)
            address, length = _number(entry[:8]), _number(entry[8:12])
            flags, number = _number(entry[12:14]), _number(entry[14:16])
            if flags & _INDIRECT:
                raise BrokenRing("is indirect, which was not offered", at="virtio descriptor")
            total += length
            if total > _CHAIN_MAX:
                raise BrokenRing(f"is larger than {_CHAIN_MAX} bytes", at="virtio request")
            parts = chain.writable if flags & _DEVICE_WRITES else chain.readable
            parts.append(self._memory.slice(address, length))
            if not flags & _NEXT:
                return chain
        raise BrokenRing("contains a loop", at="virtio descriptor chain", value=str(head))

    def give(self, chain: Chain, written: int) -> None:
        """Return a request to the driver, with the number of bytes written into it."""
        used = self.addresses[2]
        index = self._memory.load(used + 2, 2)
        entry = used + 4 + index % self.size * 8
        self._memory.store(entry, 4, chain.head)
        self._memory.store(entry + 4, 4, written)
        self._memory.store(used + 2, 2, index + 1 & 0xFFFF)  # last: the driver polls it


def _number(data: memoryview) -> int:
    return int.from_bytes(data, "little")


class VirtioDevice:
    """
    The register window (4.2.2) that all virtio devices share.

    Subclasses set ID, QUEUES and FEATURES, and override notify() and config().
    """

    ID = 0
    QUEUES = 1
    FEATURES = 0

    def __init__(self, memory: Memory, irq: Line | None = None) -> None:
        self._memory = memory
        self._irq = irq
        self._reset()

    def _reset(self) -> None:
        self.queues = [Queue(self._memory) for _ in range(self.QUEUES)]
        self.status = 0
        self._interrupts = 0
        self._selected = 0
        self._feature_page = 0
        self._driver_page = 0
        self._accepted = 0

    def notify(self, queue: Queue, number: int) -> None:
        """Serve the pending requests of a queue; may raise BrokenRing or OutsideMemory."""

    def config(self) -> bytes:
        """The configuration space, which begins at 0x100."""
        return b""

    def read(self, offset: int, size: int) -> int:
        """A register; only the configuration space may be read in pieces."""
        if offset >= 0x100:
            return _number(memoryview(self.config())[offset - 0x100 :][:size])
        queue = self._queue()
        return {
            0x00: _MAGIC,
            0x04: _VERSION,
            0x08: self.ID,
            0x0C: _VENDOR,
            0x10: (self.FEATURES | _FEATURE_VERSION_1) >> 32 * self._feature_page & 0xFFFF_FFFF,
            0x34: _QUEUE_MAX if queue else 0,
            0x44: int(queue.ready) if queue else 0,
            0x60: self._interrupts,
            0x70: self.status,
        }.get(offset, 0)

    def write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        """A register of four bytes; unknown ones are ignored."""
        action = self._WRITES.get(offset)
        if action:
            action(self, value)

    def interrupt(self, cause: int = _USED_BUFFER) -> None:
        """Notify the driver."""
        self._interrupts |= cause
        if self._irq:
            self._irq(True)

    def _queue(self) -> Queue | None:
        return self.queues[self._selected] if self._selected < len(self.queues) else None

    def _select_features(self, value: int) -> None:
        self._feature_page = min(value, 2)  # beyond the second page all bits are 0

    def _select_driver_features(self, value: int) -> None:
        self._driver_page = value

    def _accept(self, value: int) -> None:
        if self._driver_page < 2:
            shift = 32 * self._driver_page
            self._accepted = self._accepted & ~(0xFFFF_FFFF << shift) | value << shift

    def _select_queue(self, value: int) -> None:
        self._selected = value

    def _set_size(self, value: int) -> None:
        queue = self._queue()
        power_of_two = value and not value & value - 1
        if queue and not queue.ready and power_of_two and value <= _QUEUE_MAX:
            queue.size = value

    def _set_ready(self, value: int) -> None:
        queue = self._queue()
        if queue:
            queue.ready = bool(value) and queue.size > 0

    def _set_address(self, part: int, shift: int, value: int) -> None:
        queue = self._queue()
        if queue and not queue.ready:
            kept = queue.addresses[part] & ~(0xFFFF_FFFF << shift)
            queue.addresses[part] = kept | value << shift

    def _set_status(self, value: int) -> None:
        if value == 0:
            self._acknowledge(self._interrupts)
            self._reset()
            return
        offered = self.FEATURES | _FEATURE_VERSION_1
        understood = self._accepted & ~offered == 0 and self._accepted & _FEATURE_VERSION_1
        if value & _FEATURES_OK and not understood:
            value &= ~_FEATURES_OK  # 3.1.1: the driver reads it back and gives up
        self.status = value & 0xFF | self.status & _NEEDS_RESET

    def _acknowledge(self, value: int) -> None:
        was_raised = self._interrupts
        self._interrupts &= ~value
        if self._irq and was_raised and not self._interrupts:
            self._irq(False)

    def _kick(self, number: int) -> None:
        if number >= len(self.queues) or not self.queues[number].ready:
            return
        if not self.status & _DRIVER_OK or self.status & _NEEDS_RESET:
            return
        try:
            self.notify(self.queues[number], number)
        except (BrokenRing, OutsideMemory):
            self.status |= _NEEDS_RESET
            self.interrupt(_CONFIG_CHANGE)

    _WRITES: Mapping[int, Callable[[VirtioDevice, int], None]] = {
        0x14: _select_features,
        0x20: _accept,
        0x24: _select_driver_features,
        0x30: _select_queue,
        0x38: _set_size,
        0x44: _set_ready,
        0x50: _kick,
        0x64: _acknowledge,
        0x70: _set_status,
        0x80: lambda self, value: self._set_address(0, 0, value),
        0x84: lambda self, value: self._set_address(0, 32, value),
        0x90: lambda self, value: self._set_address(1, 0, value),
        0x94: lambda self, value: self._set_address(1, 32, value),
        0xA0: lambda self, value: self._set_address(2, 0, value),
        0xA4: lambda self, value: self._set_address(2, 32, value),
    }
