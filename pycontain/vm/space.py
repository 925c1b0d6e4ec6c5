"""
The address space of one program: areas of whole pages, each on a run of guest frames.

Every mapping is passed to `tables`, which differs between engines: page tables in guest memory for
KVM, the emulator's own map for unicorn. No area is writable and executable at once.

A change happens whole or not at all: first everything that can be refused is obtained (frames,
tables, a file's contents), then the change is made, and no step of that can fail.
"""

from __future__ import annotations

import errno
from bisect import bisect_left, bisect_right

from .frames import OutOfFrames, pages
from .memory import PAGE
from .paging import EXECUTE, READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from .frames import Frames
    from .memory import Memory

    Fill = Callable[[memoryview], object]

    class Tables(Protocol):
        """What makes areas visible to the processor; only reserve() may raise OutOfFrames."""

        def reserve(self, virtual: int, length: int) -> None: ...
        def map(self, virtual: int, physical: int, length: int, prot: int) -> None: ...
        def unmap(self, virtual: int, length: int) -> None: ...


LOWEST = 0x1_0000  # vm.mmap_min_addr: a null pointer with an offset still faults
HIGHEST = 0x7FFF_FFE0_0000  # the window follows; the last page stays empty: CVE-2012-0217
_MMAP_BASE = 0x7000_0000_0000
_AREAS_MAX = 65530  # vm.max_map_count


class BadAddress(Exception):
    """The program gave an address that is not its own: EFAULT."""


class MapError(Exception):
    """A mapping is not possible; errno says why."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.errno = number


class Area:
    """
    Pages from start to end with the same permissions, on frames from frame on.

    frame is None for pages without frames, which have no permission. shared pages are those of
    forked processes too.
    """

    __slots__ = ("end", "frame", "prot", "shared", "start")

    def __init__(
        self, start: int, end: int, prot: int, frame: int | None, *, shared: bool = False
    ) -> None:
        self.start = start
        self.end = end
        self.prot = prot
        self.frame = frame
        self.shared = shared

    def part(self, start: int, end: int) -> Area:
        """A copy of what is between two addresses."""
        low, high = max(start, self.start), min(end, self.end)
        frame = None if self.frame is None else self.frame + low - self.start
        return Area(low, high, self.prot, frame, shared=self.shared)

    def continues(self, before: Area) -> bool:
        """Whether this is the same mapping as the one right below it."""
        if before.end != self.start or before.prot != self.prot or before.shared != self.shared:
            return False
        if before.frame is None or self.frame is None:
            return before.frame is self.frame
        return self.frame == before.frame + before.end - before.start


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

    def map(
        self, address: int, length: int, prot: int, *, fixed: bool = False,
        fill: Fill | None = None, share: tuple[int, int] | None = None,
    ) -> int:  # fmt: skip
        """
        Map pages: exactly at address when fixed, else there if it is free, or anywhere.

        They are zero, or what fill writes into them before they replace anything; or they are those
        of an open file from an offset on, share.

        Raises MapError: EINVAL, ENOMEM, or EACCES for pages both writable and executable; and what
        fill raises. The space is then as it was.
        """
        length = pages(length)
        if length <= 0 or (address % PAGE and fixed):
            raise MapError(errno.EINVAL)
        _check_prot(prot)
        if fixed:
            _check_range(address, length)
        else:
            address = self._gap(address // PAGE * PAGE, length)
        end = address + length
        old = self._inside(address, end)
        # zeroed where they are, if possible: there need not be room for the old and the new
        fresh = fill or share is not None or not prot
        kept = [] if fresh else [area for area in old if area.frame is not None]
        new = _tiles(address, end, prot, kept)
        self._check_room(address, end, len(new))
        if prot or fill or share is not None:
            self._back(new, fill, share)
        for area in old:
            self._hide(area)
            (self._empty if kept else self._give)(area)
        for area in new:
            self._show(area)
        self._replace(address, end, new)
        return address

    def unmap(self, address: int, length: int) -> None:
        """
        Unmap whole pages; holes are ignored.

        Raises MapError: EINVAL, or ENOMEM when too many areas would remain.
        """
        length = pages(length)
        end = address + length
        if address % PAGE or length <= 0 or address < 0 or end > HIGHEST:
            raise MapError(errno.EINVAL)
        self._check_room(address, end, 0)
        for area in self._inside(address, end):
            self._hide(area)
            self._give(area)
        self._replace(address, end, [])

    def protect(self, address: int, length: int, prot: int) -> None:
        """
        Change permissions.

        Raises MapError: EINVAL, EACCES for write and execute, ENOMEM for a hole or when there are
        no frames for pages that had none.
        """
        length = pages(length)
        if address % PAGE:
            raise MapError(errno.EINVAL)
        _check_prot(prot)
        if not length:
            return
        end = address + length
        old = self._inside(address, end)
        if sum(area.end - area.start for area in old) != length:
            raise MapError(errno.ENOMEM)
        new = [Area(a.start, a.end, prot, a.frame, shared=a.shared) for a in old]
        self._check_room(address, end, len(new))
        if prot:
            self._back(new)
        for before, after in zip(old, new, strict=True):
            self._change(before, after)
        self._replace(address, end, new)

    def move(self, old: int, old_length: int, length: int, *, to: int | None = None) -> int:
        """
        Move pages with their contents to free addresses, or to address `to`, and make them more or
        fewer; returns where they are. The frames stay.

        Raises MapError: EINVAL, EFAULT for a hole, ENOMEM; then nothing has changed.
        """
        old_length, length = pages(old_length), pages(length)
        if to is not None and (to % PAGE or (to < old + old_length and old < to + length)):
            raise MapError(errno.EINVAL)
        found = self._whole(old, old_length)
        stop = old + min(old_length, length)
        kept = [area.part(old, stop) for area in found if area.start < stop]
        if to is None:
            start = self._gap(0, length)
        else:
            _check_range(to, length)
            start = to
        self._check_room(start, start + length, len(kept) + 2)
        if to is not None and not self.is_free(start, length):
            self.unmap(start, length)
        rest = length - old_length
        if rest > 0:
            self.map(start + old_length, rest, found[-1].prot, fixed=True)
        self._reserve(start, length)
        for area in kept:
            self._hide(area)
            if area.prot and area.frame is not None:
                self._memory.forget(area.frame, area.end - area.start)
        self._replace(old, stop, [])
        if length < old_length:
            self.unmap(old + length, old_length - length)
        moved = [
            Area(a.start - old + start, a.end - old + start, a.prot, a.frame, shared=a.shared)
            for a in kept
        ]
        for area in moved:
            self._show(area)
        self._replace(start, start + stop - old, moved)
        return start

    def grow(self, address: int, length: int, more: int) -> bool:
        """Add pages after a range that is mapped whole, if they are free. Raises MapError."""
        last = self._whole(address, length)[-1]
        end = address + pages(length)
        if last.shared or not self.is_free(end, more):
            return False
        self.map(end, more, last.prot, fixed=True)
        return True

    def _whole(self, address: int, length: int) -> list[Area]:
        """The areas of a range without holes. Raises MapError with EFAULT."""
        found = self._inside(address, address + pages(length))
        if not found or not self.is_mapped(address, length):
            raise MapError(errno.EFAULT)
        return found

    def _reserve(self, address: int, length: int) -> None:
        try:
            self._tables.reserve(address, length)
        except OutOfFrames:
            self.unmap(address, length)
            raise MapError(errno.ENOMEM) from None

    def is_mapped(self, address: int, length: int) -> bool:
        """Whether a range has no hole."""
        found = self._inside(address, address + pages(length))
        return sum(area.end - area.start for area in found) == pages(length)

    def clear(self) -> None:
        """Unmap everything, for execve(2)."""
        for area in self._areas:
            self._hide(area)
            self._give(area)
        self._areas.clear()
        self._starts.clear()

    def drop(self, address: int, length: int) -> None:
        """madvise(2), MADV_DONTNEED: pages read as zero again. Raises MapError with ENOMEM."""
        length = pages(length)
        for area in self._inside(address, address + length):
            if not area.shared:
                self._empty(area)
        if self.is_free(address, length) and length:
            raise MapError(errno.ENOMEM)

    def sync(self, address: int, length: int) -> None:
        """msync(2): write pages of files to them. Raises OSError."""
        for area in self._inside(address, address + pages(length)):
            if area.shared and area.frame is not None:
                self._memory.sync(area.frame, area.end - area.start)

    def free(self) -> int:
        """Bytes of memory that nothing uses."""
        return self._frames.free

    def room(self, address: int) -> int:
        """How many bytes are mapped from an address on, without a hole or a change."""
        area = self.area_at(address)
        return area.end - address if area else 0

    def areas(self) -> list[Area]:
        """What is mapped, in order."""
        return list(self._areas)

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
        first = max(0, bisect_right(self._starts, address) - 1)  # an area may span the base
        for area in self._areas[first:]:
            if area.start - address >= length:
                return address
            address = max(address, area.end)
        if address + length > HIGHEST:
            raise MapError(errno.ENOMEM)
        return address

    # --- what can be refused -------------------------------------------------------------------

    def _check_room(self, start: int, end: int, count: int) -> None:
        """Raises MapError if the areas were too many, with count of them in this range."""
        first, last = self._overlap(start, end)
        inside = self._areas[first:last]
        if inside:
            count += (inside[0].start < start) + (inside[-1].end > end)
        if count > len(inside) and len(self._areas) - len(inside) + count > _AREAS_MAX:
            raise MapError(errno.ENOMEM)

    def _back(
        self, areas: list[Area], fill: Fill | None = None, share: tuple[int, int] | None = None
    ) -> None:
        """
        Give frames to those of adjacent areas that have none, and tables to all.

        fill and share are for a single area. Raises MapError with ENOMEM, or what fill raises; then
        no frame was taken.
        """
        bare = [area for area in areas if area.frame is None]
        try:
            for area in bare:
                area.frame = frame = self._frames.take(area.end - area.start)
                if fill:
                    fill(self._memory.slice(frame, area.end - area.start))
                if share is not None:
                    self._memory.share(frame, area.end - area.start, *share)
                    area.shared = True
            self._tables.reserve(areas[0].start, areas[-1].end - areas[0].start)
        except BaseException as error:
            for area in bare:
                self._give(area)
            if isinstance(error, OutOfFrames):
                raise MapError(errno.ENOMEM) from None
            raise

    # --- what cannot be refused ----------------------------------------------------------------

    def _empty(self, area: Area) -> None:
        """Zero the frames of an area; KVM drops its translations of them."""
        if area.frame is None:
            return
        if area.shared:
            self._memory.renew(area.frame, area.end - area.start)
        else:
            self._memory.discard(area.frame, area.end - area.start)

    def _give(self, area: Area) -> None:
        """Return the frames of an area that is not in the tables; all that are free are zero."""
        self._empty(area)
        if area.frame is not None:
            self._frames.give(area.frame, area.end - area.start)
            area.frame = None

    def _hide(self, area: Area) -> None:
        """Take an area out of the tables; KVM must then be made to drop its translations."""
        if area.prot:
            self._tables.unmap(area.start, area.end - area.start)

    def _show(self, area: Area) -> None:
        if area.prot and area.frame is not None:
            self._tables.map(area.start, area.frame, area.end - area.start, area.prot)

    def _change(self, before: Area, after: Area) -> None:
        """Show the same pages with other permissions."""
        self._hide(before)
        self._show(after)
        if before.prot & ~after.prot and after.frame is not None:
            self._memory.forget(after.frame, after.end - after.start)

    # --- the list of areas ---------------------------------------------------------------------

    def _overlap(self, start: int, end: int) -> tuple[int, int]:
        """The number of the first area in a range, and one past that of the last."""
        first = bisect_right(self._starts, start)
        if first and self._areas[first - 1].end > start:
            first -= 1
        return first, bisect_left(self._starts, end)

    def _inside(self, start: int, end: int) -> list[Area]:
        """Copies of the areas in a range, without what is outside of it."""
        first, last = self._overlap(start, end)
        return [area.part(start, end) for area in self._areas[first:last]]

    def _replace(self, start: int, end: int, areas: list[Area]) -> None:
        """Put areas in the place of all that is in a range, joined with what they continue."""
        first, last = self._overlap(start, end)
        low, inside = max(0, first - 1), self._areas[first:last]
        below = [area.part(0, start) for area in inside if area.start < start]
        above = [area.part(end, HIGHEST) for area in inside if area.end > end]
        before, after = self._areas[low:first], self._areas[last : last + 1]
        joined: list[Area] = []
        for area in (*before, *below, *areas, *above, *after):
            if joined and area.continues(joined[-1]):
                joined[-1].end = area.end
            else:
                joined.append(area)
        self._areas[low : last + 1] = joined
        self._starts[low : last + 1] = [area.start for area in joined]

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
            if area is None or not area.start <= address < area.end:
                raise BadAddress
            if area.frame is None or need & ~area.prot:
                raise BadAddress
            stop = min(end, area.end)
            pieces.append(self._memory.slice(area.frame + address - area.start, stop - address))
            address = stop
            number += 1
        return pieces

    def host(self, address: int, length: int, need: int = READ) -> int:
        """
        The address in this process of the program's bytes, which must be in one piece.

        Raises BadAddress, also for bytes in several pieces: slices() has them.
        """
        area = self.area_at(address)
        if area is None or address + length > area.end or area.frame is None or need & ~area.prot:
            raise BadAddress
        return self._memory.host + area.frame + address - area.start

    def area_at(self, address: int) -> Area | None:
        """The area that an address is in."""
        number = bisect_right(self._starts, address) - 1
        area = self._areas[number] if number >= 0 else None
        return area if area and address < area.end else None

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


def _tiles(start: int, end: int, prot: int, backed: list[Area]) -> list[Area]:
    """A range with these permissions: on the frames that it has, and between them on none."""
    tiles, at = [], start
    for area in backed:
        if at < area.start:
            tiles.append(Area(at, area.start, prot, None))
        tiles.append(Area(area.start, area.end, prot, area.frame))
        at = area.end
    if at < end:
        tiles.append(Area(at, end, prot, None))
    return tiles
