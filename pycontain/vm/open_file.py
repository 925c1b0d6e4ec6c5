"""An open file of a program in the VM, and those that no descriptor of this host stands behind."""

from __future__ import annotations

import errno
import os
import stat
import struct

from ..kernel.descriptors import close_owned
from .view import status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_CHUNK = 1 << 16
_ENTRY = struct.Struct("<QqHB")  # struct linux_dirent64 up to its name, getdents(2)
_UNKNOWN = 0  # DT_UNKNOWN


class OpenFile:
    """
    An open file; several descriptors may refer to it.

    fd      the descriptor of this process, or -1 for one that is made here
    path    where it is in the view, for calls relative to it
    flags   those of open(2)
    number  its inode number, if the program is not shown the host's status; otherwise 0
    never_blocks  whether the descriptor of this process has O_NONBLOCK
    clock   of a timer, timerfd_create(2)
    in_memory     whether its bytes are memory of the host, memfd_create(2)
    """

    __slots__ = (
        "clock",
        "fd",
        "flags",
        "in_memory",
        "made",
        "never_blocks",
        "number",
        "path",
        "regular",
        "users",
    )

    def __init__(
        self, fd: int, path: bytes = b"", flags: int = 0, *, regular: bool = False,
        number: int = 0, made: Made | None = None, never_blocks: bool = False,
    ) -> None:  # fmt: skip
        self.fd = fd
        self.path = path
        self.flags = flags
        self.regular = regular
        self.number = number
        self.made = made
        self.users = 0
        self.never_blocks = never_blocks
        self.clock: int | None = None
        self.in_memory = False

    def status(self) -> os.stat_result:
        """What fstat(2) shows."""
        return self.made.info if self.made else status(self.fd, self.number)

    def let_go(self) -> None:
        """One user less; close it after the last."""
        self.users -= 1
        if not self.users:
            self.release()

    def release(self) -> None:
        """Nothing refers to it any more."""
        close_owned(self, "fd")

    def is_for(self, mode: int) -> bool:
        """Whether it was opened for this, O_RDONLY or O_WRONLY."""
        return self.flags & os.O_ACCMODE in (mode, os.O_RDWR) and not self.flags & os.O_PATH


class Made:
    """A file that is made here; reading and writing return a number of bytes or raise OSError."""

    def __init__(self, info: os.stat_result) -> None:
        self.info = info

    def read(self, pieces: Sequence[memoryview]) -> int:  # noqa: ARG002
        raise OSError(errno.EISDIR, "")

    def write(self, pieces: Sequence[memoryview]) -> int:  # noqa: ARG002
        raise OSError(errno.EBADF, "")

    def seek(self, offset: int, whence: int) -> int:  # noqa: ARG002
        raise OSError(errno.ESPIPE, "")

    def entries(self, room: int) -> bytes:  # noqa: ARG002
        raise OSError(errno.ENOTDIR, "")


class Device(Made):
    """
    A character device that keeps no state, without opening the host's.

    source  makes this many bytes to read; None for a device that is always at its end
    """

    def __init__(self, info: os.stat_result, source: Callable[[int], bytes] | None, *, full: bool):
        super().__init__(info)
        self.source = source
        self._full = full

    def read(self, pieces: Sequence[memoryview]) -> int:
        if self.source is None:
            return 0
        for piece in pieces:
            for start in range(0, len(piece), _CHUNK):
                part = piece[start : start + _CHUNK]
                part[:] = self.source(len(part))
        return sum(map(len, pieces))

    def write(self, pieces: Sequence[memoryview]) -> int:
        if self._full:
            raise OSError(errno.ENOSPC, "")
        return sum(map(len, pieces))

    def seek(self, offset: int, whence: int) -> int:  # noqa: ARG002
        return 0


# null, zero, full, random, urandom: null(4), full(4), random(4)
_DEVICES: dict[int, Callable[[os.stat_result], Device]] = {
    os.makedev(1, 3): lambda info: Device(info, None, full=False),
    os.makedev(1, 5): lambda info: Device(info, bytes, full=False),
    os.makedev(1, 7): lambda info: Device(info, bytes, full=True),
    os.makedev(1, 8): lambda info: Device(info, os.urandom, full=False),
    os.makedev(1, 9): lambda info: Device(info, os.urandom, full=False),
}


def device(info: os.stat_result) -> Device | None:
    """The device that a file of this status stands for, if it is one that is made here."""
    make = _DEVICES.get(info.st_rdev) if stat.S_ISCHR(info.st_mode) else None
    return make(info) if make else None


class Folder(Made):
    """A directory that exists only in the view."""

    def __init__(self, info: os.stat_result, names: Sequence[bytes]) -> None:
        super().__init__(info)
        self._names = [b".", b"..", *names]
        self._at = 0

    def seek(self, offset: int, whence: int) -> int:
        if whence != os.SEEK_SET or offset < 0:
            raise OSError(errno.EINVAL, "")
        self._at = offset
        return offset

    def entries(self, room: int) -> bytes:
        """Entries of getdents64(2), from the position on."""
        taken = b""
        while self._at < len(self._names):
            entry = self._entry(self._at)
            if len(taken) + len(entry) > room:
                break
            taken += entry
            self._at += 1
        if not taken and self._at < len(self._names):
            raise OSError(errno.EINVAL, "")
        return taken

    def _entry(self, at: int) -> bytes:
        name = self._names[at] + b"\0"
        length = -(-(_ENTRY.size + len(name)) // 8) * 8
        head = _ENTRY.pack(at + 1, at + 1, length, _UNKNOWN)
        return (head + name).ljust(length, b"\0")
