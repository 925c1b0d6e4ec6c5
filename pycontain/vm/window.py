"""
Reading ahead into the guest, so that small reads of a file need no exit (ring3/entry.S).

When a program reads one file twice in a row, the next part of it is put into the window, from
which ring3/entry.S serves further reads. Any other system call first sets the file's position to
where the program has read, and closes the window: a program that only reads cannot tell.
"""

from __future__ import annotations

import os

from . import ring3
from .frames import OutOfFrames
from .paging import READ
from .space import HIGHEST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .frames import Frames
    from .memory import Memory
    from .open_file import OpenFile
    from .paging import PageTables

_ADDRESS = HIGHEST  # above all that the program can map or unmap
_SIZE, _FIRST_FILL = 1 << 20, 64 << 10
_NO_FILE = (1 << 64) - 1
_FD, _POSITION, _LEFT = ring3.DATA, ring3.DATA + 8, ring3.DATA + 16


class Window:
    """
    The window of one program.

    Raises OutOfFrames when the guest's memory is too small for it.
    """

    def __init__(self, memory: Memory, frames: Frames, tables: PageTables) -> None:
        if frames.free < 8 * _SIZE:
            raise OutOfFrames
        self._memory = memory
        tables.reserve(_ADDRESS, _SIZE)
        self._frame = frames.take(_SIZE)
        tables.map(_ADDRESS, self._frame, _SIZE, READ)
        self._recent: OpenFile | None = None  # what the latest call read
        self._file: OpenFile | None = None  # whose bytes are in the window
        self._end = 0  # the position in the file right after them
        self._length = 0
        self._fill = _FIRST_FILL

    def pause(self) -> None:
        """Close the window, before a call other than read()."""
        self._settle()
        self._recent = None

    def read(self, file: OpenFile, descriptor: int, pieces: list[memoryview]) -> int:
        """read(2) of a regular file into these pieces; the second in a row fills the window."""
        self._settle()
        if file is not self._recent:
            self._recent, self._fill = file, _FIRST_FILL
            return os.readv(file.fd, pieces)
        start = os.lseek(file.fd, 0, os.SEEK_CUR)
        view = self._memory.slice(self._frame, self._fill)
        got = os.preadv(file.fd, [view], start)
        taken = 0
        for piece in pieces:
            part = view[taken : min(got, taken + len(piece))]
            piece[: len(part)] = part
            taken += len(part)
        self._offer(file, descriptor, taken, got, start + got)
        return taken

    def _offer(self, file: OpenFile, descriptor: int, taken: int, got: int, end: int) -> None:
        """Let entry.S serve what is left."""
        self._file, self._length, self._end = file, got - taken, end
        self._memory.store(_POSITION, 8, _ADDRESS + taken)
        self._memory.store(_LEFT, 8, got - taken)
        self._memory.store(_FD, 8, descriptor)
        self._fill = min(2 * self._fill, _SIZE)

    def _settle(self) -> None:
        """Set the file's own position to where the program has read, and empty the window."""
        if self._file is None:
            return
        left = min(self._memory.load(_LEFT, 8), self._length)  # the program can overwrite it
        os.lseek(self._file.fd, self._end - left, os.SEEK_SET)
        self._memory.store(_FD, 8, _NO_FILE)
        self._file = None
