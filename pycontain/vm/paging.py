"""
Page tables of x86-64, four levels of 4 KiB pages, built in guest memory by the monitor.

KVM's shadow pages do not see what this process writes into them. Making an entry present is safe,
as the guest faults and KVM looks; after taking something away the caller must make KVM forget its
translation of the frame (Memory.discard, Memory.touch). Intel SDM volume 3, 4.5.
"""

from __future__ import annotations

from array import array

from .memory import PAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .frames import Frames
    from .memory import Memory

READ, WRITE, EXECUTE = 1, 2, 4  # PROT_* of <sys/mman.h>

_PRESENT, _WRITABLE, _USER, _ACCESSED, _DIRTY, _NO_EXECUTE = 1, 2, 4, 1 << 5, 1 << 6, 1 << 63
_TABLE = _PRESENT | _WRITABLE | _USER | _ACCESSED
_ADDRESS = 0x000F_FFFF_FFFF_F000
_LEAF_SPAN = 512 * PAGE


class PageTables:
    """
    One address space.

    root  the physical address of the top table, for CR3
    """

    def __init__(self, memory: Memory, frames: Frames) -> None:
        self._memory = memory
        self._frames = frames
        self._leaves: dict[int, memoryview] = {}  # by the number of the 2 MiB they span
        self.root = frames.take_last(PAGE)

    def map(
        self, virtual: int, physical: int, length: int, prot: int, *, user: bool = True
    ) -> None:
        """
        Make whole pages present with PROT_* permissions; over what is there already.

        Raises OutOfFrames when there is no room for a table.
        """
        bits = _PRESENT | _ACCESSED | _DIRTY | (_USER if user else 0)
        bits |= (_WRITABLE if prot & WRITE else 0) | (0 if prot & EXECUTE else _NO_EXECUTE)
        for leaf, first, last in self._spans(virtual, length):
            end = physical + (last - first) * PAGE
            leaf[first:last] = memoryview(array("Q", range(physical | bits, end | bits, PAGE)))
            physical = end

    def unmap(self, virtual: int, length: int) -> None:
        """Make whole pages not present."""
        for leaf, first, last in self._spans(virtual, length):
            leaf[first:last] = memoryview(array("Q", bytes(8 * (last - first))))

    def _spans(self, virtual: int, length: int) -> list[tuple[memoryview, int, int]]:
        """The last-level tables of a range, each with its first and one past its last entry."""
        spans, end = [], virtual + length
        while virtual < end:
            stop = min(end, (virtual // _LEAF_SPAN + 1) * _LEAF_SPAN)
            first = virtual % _LEAF_SPAN // PAGE
            spans.append((self._leaf(virtual), first, first + (stop - virtual) // PAGE))
            virtual = stop
        return spans

    def _leaf(self, virtual: int) -> memoryview:
        number = virtual // _LEAF_SPAN
        if number not in self._leaves:
            table = self.root
            for shift in (39, 30, 21):
                table = self._below(table, virtual >> shift & 511)
            self._leaves[number] = self._entries(table)
        return self._leaves[number]

    def _below(self, table: int, index: int) -> int:
        entries = self._entries(table)
        if not entries[index]:
            entries[index] = self._frames.take_last(PAGE) | _TABLE
        return entries[index] & _ADDRESS

    def _entries(self, table: int) -> memoryview:
        return self._memory.slice(table, PAGE).cast("Q")

    def close(self) -> None:
        """Let go of the memory."""
        for leaf in self._leaves.values():
            leaf.release()
        self._leaves.clear()
