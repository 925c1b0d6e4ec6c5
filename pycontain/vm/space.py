"""
The address space of one program: areas of whole pages, each on a run of guest frames.

What it maps it tells to `tables`, which is what differs between engines: page tables in guest
memory for KVM, the emulator's own map for unicorn. No area is writable and executable at once.
"""

from __future__ import annotations

import errno
from bisect import bisect_right

from .frames import OutOfFrames, pages
from .memory import PAGE
from .paging import EXECUTE, READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from .frames import Frames
    from .memory import Memory

    class Tables(Protocol):
        """What makes areas visible to the processor."""

        def map(self, virtual: int, physical: int, length: int, prot: int) -> None: ...
        def unmap(self, virtual: int, length: int) -> None: ...


LOWEST = 0x1_0000  # vm.mmap_min_addr: a null pointer with an offset still faults
HIGHEST = 0x7FFF_FFFF_F000
_MMAP_BASE = 0x7000_0000_0000
_AREAS_MAX = 65530  # vm.max_map_count
_NO_FRAMES = -1


class BadAddress(Exception):
    """The program gave an address that is not its own: EFAULT."""


class MapError(Exception):
    """A mapping cannot be made; errno says why."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.errno = number


class Area:
    """Pages from start to end with the same permissions, on frames from frame on (or on none)."""

    __slots__ = ("end", "frame", "prot", "start")

    def __init__(self, start: int, end: int, prot: int, frame: int) -> None:
        self.start = start
        self.end = end
        self.prot = prot
        self.frame = frame


class Space:
    """
    The areas of a program, sorted.

    Addresses are virtual, lengths in bytes. An area that was never accessible (PROT_NONE) takes no
    frames, so a program may reserve much more than its memory.
    """

    def __init__(self, memory: Memory, frames: Frames, tables: Tables) -> None:
        self._memory = memory
        self._frames = frames
        self._tables = tables
        self._starts: list[int] = []
        self._areas: list[Area] = []

    # --- mapping -------------------------------------------------------------------------------

    def map(self, address: int, length: int, prot: int, *, fixed: bool = False) -> int:
        """
        Map zeroed pages: exactly at address when fixed, else there if it is free, or anywhere.

        Raises MapError: EINVAL, ENOMEM, or EACCES for pages both writable and executable.
        """
        length = pages(length)
        if length <= 0 or (address % PAGE and fixed):
            raise MapError(errno.EINVAL)
        _check_prot(prot)
        if fixed:
            _check_range(address, length)
            self.unmap(address, length)
        else:
            address = self._gap(address // PAGE * PAGE, length)
        if len(self._areas) >= _AREAS_MAX:
            raise MapError(errno.ENOMEM)
        area = Area(address, address + length, prot, _NO_FRAMES)
        if prot:
            self._back(area)
        self._insert(area)
        return address

    def unmap(self, address: int, length: int) -> None:
        """Unmap whole pages; holes are left as they are. Raises MapError with EINVAL."""
        length = pages(length)
        if address % PAGE or length <= 0 or address < 0 or address + length > HIGHEST:
            raise MapError(errno.EINVAL)
        for area in self._cut(address, address + length):
            self._remove(area)

    def protect(self, address: int, length: int, prot: int) -> None:
        """Change permissions. Raises MapError: ENOMEM for a hole, EACCES for write and execute."""
        length = pages(length)
        if address % PAGE:
            raise MapError(errno.EINVAL)
        _check_prot(prot)
        areas = self._cut(address, address + length)
        if sum(area.end - area.start for area in areas) != length:
            raise MapError(errno.ENOMEM)
        for area in areas:
            self._reprotect(area, prot)

    def is_free(self, address: int, length: int) -> bool:
        """Whether nothing is mapped in a range that a program may use."""
        if address < LOWEST or address + length > HIGHEST:
            return False
        number = bisect_right(self._starts, address + length - 1)
        return number == 0 or self._areas[number - 1].end <= address

    def _gap(self, hint: int, length: int) -> int:
        if hint and self.is_free(hint, length):
            return hint
        address = _MMAP_BASE
        first = max(0, bisect_right(self._starts, address) - 1)  # it may reach across the base
        for area in self._areas[first:]:
            if area.start - address >= length:
                return address
            address = max(address, area.end)
        if address + length > HIGHEST:
            raise MapError(errno.ENOMEM)
        return address

    def _back(self, area: Area) -> None:
        """Give an area frames and show it to the processor."""
        length = area.end - area.start
        try:
            area.frame = self._frames.take(length)
            self._tables.map(area.start, area.frame, length, area.prot)
        except OutOfFrames:
            if area.frame != _NO_FRAMES:
                self._frames.give(area.frame, length)
            raise MapError(errno.ENOMEM) from None

    def _insert(self, area: Area) -> None:
        number = bisect_right(self._starts, area.start)
        before = self._areas[number - 1] if number else None
        if before and before.end == area.start and _continues(before, area):
            before.end = area.end
            return
        self._starts.insert(number, area.start)
        self._areas.insert(number, area)

    def _remove(self, area: Area) -> None:
        number = bisect_right(self._starts, area.start) - 1
        del self._starts[number], self._areas[number]
        if area.frame != _NO_FRAMES:
            length = area.end - area.start
            if area.prot:
                self._tables.unmap(area.start, length)
            self._memory.discard(area.frame, length)
            self._frames.give(area.frame, length)

    def _reprotect(self, area: Area, prot: int) -> None:
        length = area.end - area.start
        before, area.prot = area.prot, prot
        if area.frame == _NO_FRAMES:
            if prot:
                self._back(area)
            return
        if before:
            self._tables.unmap(area.start, length)
        if prot:
            self._tables.map(area.start, area.frame, length, prot)
        if before & ~prot:
            self._memory.forget(area.frame, length)

    def _cut(self, start: int, end: int) -> list[Area]:
        """The areas inside a range, after splitting those that cross its borders."""
        self._split(start)
        self._split(end)
        first = bisect_right(self._starts, start - 1)
        last = bisect_right(self._starts, end - 1)
        return self._areas[first:last]

    def _split(self, address: int) -> None:
        number = bisect_right(self._starts, address) - 1
        if number < 0:
            return
        area = self._areas[number]
        if area.start < address < area.end:
            frame = area.frame
            if frame != _NO_FRAMES:
                frame += address - area.start
            self._starts.insert(number + 1, address)
            self._areas.insert(number + 1, Area(address, area.end, area.prot, frame))
            area.end = address

    # --- access on behalf of the program -------------------------------------------------------

    def slices(self, address: int, length: int, need: int = READ) -> list[memoryview]:
        """
        The program's bytes themselves, in as few pieces as its areas allow.

        Raises BadAddress when a byte is not mapped or lacks a permission of need.
        """
        end = address + length
        number = bisect_right(self._starts, address) - 1
        pieces = []
        while address < end:
            area = self._areas[number] if 0 <= number < len(self._areas) else None
            if area is None or not area.start <= address < area.end or need & ~area.prot:
                raise BadAddress
            stop = min(end, area.end)
            pieces.append(self._memory.slice(area.frame + address - area.start, stop - address))
            address = stop
            number += 1
        return pieces

    def read(self, address: int, length: int) -> bytes:
        """A copy of the program's bytes. Raises BadAddress."""
        return b"".join(self.slices(address, length))

    def write(self, address: int, data: bytes) -> None:
        """Put bytes where the program may write. Raises BadAddress."""
        at = 0
        for piece in self.slices(address, len(data), WRITE):
            piece[:] = data[at : at + len(piece)]
            at += len(piece)

    def text(self, address: int, limit: int = 4096) -> bytes:
        """
        A string up to its zero byte.

        Raises BadAddress, or MapError with ENAMETOOLONG when it is longer than limit.
        """
        found = b""
        while len(found) < limit:
            room = min(limit - len(found), PAGE - (address + len(found)) % PAGE)
            piece, zero, _ = self.read(address + len(found), room).partition(b"\0")
            found += piece
            if zero:
                return found
        raise MapError(errno.ENAMETOOLONG)


def _check_prot(prot: int) -> None:
    if prot & WRITE and prot & EXECUTE:
        raise MapError(errno.EACCES)


def _check_range(address: int, length: int) -> None:
    if address < LOWEST or address + length > HIGHEST:
        raise MapError(errno.ENOMEM)


def _continues(before: Area, area: Area) -> bool:
    """Whether an area is the same mapping as the one right below it."""
    if before.prot != area.prot:
        return False
    if area.frame == _NO_FRAMES:
        return before.frame == _NO_FRAMES
    return before.frame != _NO_FRAMES and area.frame == before.frame + before.end - before.start
