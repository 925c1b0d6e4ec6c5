"""mmap and related calls: a program's memory. Files are read into it, not shared."""

from __future__ import annotations

import errno
import os

from ..frames import pages
from ..paging import EXECUTE, READ, WRITE
from ..space import MapError
from .layout import signed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..space import Space
    from .files import Files

_SHARED, _FIXED, _ANONYMOUS, _NOREPLACE = 1, 0x10, 0x20, 0x10_0000


class MemoryCalls:
    """heap is the address where brk starts."""

    def __init__(self, space: Space, files: Files, heap: int) -> None:
        self._space = space
        self._files = files
        self._heap = self._break = heap

    def calls(self) -> dict[str, Callable[..., int]]:
        """The calls served here, by name."""
        return {
            "mmap": self.mmap, "munmap": self.munmap, "mprotect": self.mprotect, "brk": self.brk,
        }  # fmt: skip

    def mmap(self, address: int, length: int, prot: int, flags: int, fd: int, offset: int) -> int:
        prot &= READ | WRITE | EXECUTE
        fixed = bool(flags & (_FIXED | _NOREPLACE))
        if flags & _NOREPLACE and not self._space.is_free(address, length):
            raise MapError(errno.EEXIST)
        if flags & _ANONYMOUS:
            return self._space.map(address, length, prot, fixed=fixed)
        if flags & _SHARED and prot & WRITE:
            raise MapError(errno.ENODEV)
        return self._map_file(address, length, prot, fixed, self._files.host(fd), offset)

    def _map_file(
        self, address: int, length: int, prot: int, fixed: bool, file: int, offset: int
    ) -> int:
        def fill(view: memoryview) -> None:
            os.preadv(file, [view], signed(offset, 64))

        return self._space.map(address, length, prot, fixed=fixed, fill=fill)

    def munmap(self, address: int, length: int) -> int:
        self._space.unmap(address, length)
        return 0

    def mprotect(self, address: int, length: int, prot: int) -> int:
        self._space.protect(address, length, prot & (READ | WRITE | EXECUTE))
        return 0

    def brk(self, address: int) -> int:
        old, new = pages(self._break), pages(address)
        if address < self._heap:
            return self._break
        if new > old and not self._space.is_free(old, new - old):
            return self._break
        try:
            if new > old:
                self._space.map(old, new - old, READ | WRITE, fixed=True)
            elif new < old:
                self._space.unmap(new, old - new)
        except MapError:
            return self._break  # brk(2) reports no errno: it returns the unchanged break
        self._break = address
        return address
