"""
Page tables of x86-64, four levels of 4 KiB pages, built in guest memory by the monitor.

KVM's shadow pages do not follow what this process writes into the tables. Making an entry present
is safe, as the guest faults and KVM reads it; after removing an entry or a permission the caller
must make KVM drop its translation of the frame (Memory.discard, Memory.forget). Intel SDM volume 3,
4.5.
"""

from __future__ import annotations

import struct

from .frames import OutOfFrames
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

    def reserve(self, virtual: int, length: int) -> None:
        """
        Take the tables that a range lacks, so that map() has all that it needs.

        Raises OutOfFrames when there is no room for one; then none was taken.
        """
        made: list[tuple[memoryview, int]] = []
        leaves: dict[int, memoryview] = {}
        try:
            for number in range(virtual // _LEAF_SPAN, -(-(virtual + length) // _LEAF_SPAN)):
                if number not in self._leaves:
                    leaves[number] = self._leaf(number * _LEAF_SPAN, made)
        except OutOfFrames:
            for entries, index in reversed(made):
                table, entries[index] = entries[index] & _ADDRESS, 0
                self._memory.discard(table, PAGE)  # another processor may have seen it
                self._frames.give(table, PAGE)
            raise
        self._leaves.update(leaves)

    def map(
        self, virtual: int, physical: int, length: int, prot: int, *, user: bool = True
    ) -> None:
        """
        Make whole pages present with PROT_* permissions, replacing what is mapped there.

        Raises OutOfFrames, before any change, when a table is missing and there is no room for it.
        """
        self.reserve(virtual, length)
        bits = _PRESENT | _ACCESSED | _DIRTY | (_USER if user else 0)
        bits |= (_WRITABLE if prot & WRITE else 0) | (0 if prot & EXECUTE else _NO_EXECUTE)
        for leaf, first, last in self._spans(virtual, length):
            end = physical + (last - first) * PAGE
            leaf[first:last] = _words(*range(physical | bits, end | bits, PAGE))
            physical = end

    def unmap(self, virtual: int, length: int) -> None:
        """Make whole pages, which were mapped, not present."""
        for leaf, first, last in self._spans(virtual, length):
            leaf[first:last] = memoryview(bytes(8 * (last - first))).cast("Q")

    def _spans(self, virtual: int, length: int) -> list[tuple[memoryview, int, int]]:
        """The last-level tables of a range, each with its first and one past its last entry."""
        spans, end = [], virtual + length
        while virtual < end:
            stop = min(end, (virtual // _LEAF_SPAN + 1) * _LEAF_SPAN)
            first = virtual % _LEAF_SPAN // PAGE
            leaf = self._leaves[virtual // _LEAF_SPAN]
            spans.append((leaf, first, first + (stop - virtual) // PAGE))
            virtual = stop
        return spans

    def _leaf(self, virtual: int, made: list[tuple[memoryview, int]]) -> memoryview:
        """The last-level table of an address; the entries of those it lacked are added to made."""
        table = self.root
        for shift in (39, 30, 21):
            entries, index = self._entries(table), virtual >> shift & 511
            if not entries[index]:
                entries[index] = self._frames.take_last(PAGE) | _TABLE
                made.append((entries, index))
            table = entries[index] & _ADDRESS
        return self._entries(table)

    def _entries(self, table: int) -> memoryview:
        return self._memory.slice(table, PAGE).cast("Q")

    def close(self) -> None:
        """Release the views of the memory."""
        for leaf in self._leaves.values():
            leaf.release()
        self._leaves.clear()


def _words(*values: int) -> memoryview:
    """As 64-bit words; importing `array`, and with it all of collections, costs 2 ms."""
    return memoryview(struct.pack(f"{len(values)}Q", *values)).cast("Q")
