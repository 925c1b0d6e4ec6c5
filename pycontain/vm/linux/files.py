"""
The descriptors of a program.

A regular file or directory is opened by its path (paths.py); pipes, sockets and the like are made
(channels.py, sockets.py). The host's descriptors of those do not block: the monitor waits where
signals reach it, and does what O_NONBLOCK asks for itself.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from ..open_file import OpenFile
from ..view import PROGRAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..window import Window

FILES_MAX = 1024


class Files:
    """
    The descriptor table of a process.

    Standard descriptors are duplicated, so that the program cannot close ours; it is not shown
    whose files they are.

    cwd     its working directory, a path in the view
    window  where regular files are read ahead, if there is one
    """

    def __init__(self, cwd: bytes) -> None:
        self.cwd = cwd
        self.window: Window | None = None
        self._open: dict[int, OpenFile] = {}
        self._closes: set[int] = set()  # those with FD_CLOEXEC

    def add_stream(self, stream: int, *, as_opened: bool) -> None:
        """
        The next standard descriptor, one of this process.

        as_opened  used in the directions that it is open for; otherwise, unless it is a terminal,
                   input is read and output written: a caller's log may be open for both
        """
        number = PROGRAM + 1 + len(self._open)
        flags = os.O_WRONLY if self._open else os.O_RDONLY
        if as_opened or os.isatty(stream):
            flags = fcntl.fcntl(stream, fcntl.F_GETFL) & os.O_ACCMODE
        regular = stat.S_ISREG(os.fstat(stream).st_mode)
        self.add(OpenFile(os.dup(stream), flags=flags, regular=regular, number=number))

    def close_all(self) -> None:
        """Close everything the program left open."""
        for number in list(self._open):
            self.close(number)

    # --- the table -----------------------------------------------------------------------------

    def add(self, file: OpenFile, lowest: int = 0, *, closes: bool = False) -> int:
        """Give this file the lowest free descriptor. Raises OSError with EMFILE."""
        number = lowest
        while number in self._open:
            number += 1
        if number >= FILES_MAX:
            if not file.users:
                file.release()
            raise OSError(errno.EMFILE, "")
        return self.put(number, file, closes=closes)

    def put(self, number: int, file: OpenFile, *, closes: bool = False) -> int:
        """Give this file this descriptor, which is free."""
        file.users += 1
        self._open[number] = file
        self.set_closes(number, closes)
        return number

    def get(self, number: int) -> OpenFile:
        """The file behind a descriptor. Raises OSError with EBADF."""
        file = self._open.get(number & 0xFFFF_FFFF)
        if file is None:
            raise OSError(errno.EBADF, "")
        return file

    def use(self, number: int, mode: int) -> OpenFile:
        """The file, if it is open for this, O_RDONLY or O_WRONLY. Raises OSError with EBADF."""
        file = self.get(number)
        if not file.is_for(mode):
            raise OSError(errno.EBADF, "")
        return file

    def host(self, number: int) -> int:
        """
        The descriptor of this process behind one of the program's.

        Raises OSError: EBADF, or EINVAL for a file that is made here.
        """
        file = self.get(number)
        if file.fd < 0:
            raise OSError(errno.EINVAL, "")
        return file.fd

    def numbers(self) -> list[int]:
        """All descriptors."""
        return sorted(self._open)

    def has(self, number: int) -> bool:
        """Whether a descriptor is in use."""
        return number in self._open

    def close(self, number: int) -> None:
        """Close a descriptor. Raises OSError with EBADF."""
        file = self.get(number)
        del self._open[number & 0xFFFF_FFFF]
        self._closes.discard(number & 0xFFFF_FFFF)
        file.let_go()

    def check_room(self, file: OpenFile, end: int, most: int) -> None:
        """Raises OSError with ENOSPC if files in memory were too large with this one so long."""
        if file.in_memory:
            others = {f for f in self._open.values() if f.in_memory and f is not file}
            if end + sum(os.fstat(other.fd).st_size for other in others) > most:
                raise OSError(errno.ENOSPC, "")

    def closes(self, number: int) -> bool:
        """Whether execve(2) closes a descriptor."""
        return number in self._closes

    def set_closes(self, number: int, closes: bool) -> None:
        """Set or clear FD_CLOEXEC."""
        (self._closes.add if closes else self._closes.discard)(number)

    def close_on_exec(self) -> None:
        """What execve(2) does."""
        for number in list(self._closes):
            self.close(number)
