"""
Descriptors and files of a program: those of its view, and the streams it was given.

It reads, and writes to its streams and to volumes that are writable. A path is looked at before
anything is opened (view.py), then only directories and regular files are; a few devices are made
here (open_file.py), and nothing opens in /proc and the like, which would show the monitor.
"""

from __future__ import annotations

import errno
import os
import select
import stat

from ...errors import KernelError
from .._ffi import ffi
from ..open_file import Folder, OpenFile, Output, device
from ..paging import READ, WRITE
from ..view import PROGRAM
from .layout import STAT, signed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..deadline import Deadline
    from ..devices.serial import Sink
    from ..space import Space
    from ..view import Found, View
    from ..window import Window

_FILES_MAX = 1024
_IO_MAX = 0x7FFF_F000  # MAX_RW_COUNT: the most that one call transfers, read(2)
_IOV_MAX = 1024
_AT_FDCWD, _AT_EMPTY_PATH, _AT_NOFOLLOW = -100, 0x1000, 0x100
_LOOK = os.O_DIRECTORY | os.O_NOFOLLOW
_OPEN = os.O_ACCMODE | os.O_TRUNC | os.O_APPEND
_F_DUPFD, _F_GETFD, _F_SETFD, _F_GETFL, _F_DUPFD_CLOEXEC = 0, 1, 2, 3, 1030
_SIGPIPE = 13
_lib = ffi.dlopen(None)


class Files:
    """
    The descriptors of one program.

    cwd is a path in the view. Standard descriptors are duplicated, so that the program cannot close
    ours; it is not shown whose files they are.

    window  where regular files are read ahead, if there is one
    kill    called with SIGPIPE when a pipe has no reader
    """

    def __init__(
        self, machine: str, space: Space, deadline: Deadline, view: View, cwd: bytes
    ) -> None:
        self._stat = STAT[machine]
        self._space = space
        self._deadline = deadline
        self._view = view
        self._cwd = cwd
        self._open: dict[int, OpenFile] = {}
        self.window: Window | None = None
        self.kill: Callable[[int], None]

    def add_stream(self, stream: int | Sink) -> None:
        """The next standard descriptor: one of this process, or a function that takes output."""
        number = PROGRAM + 1 + len(self._open)
        flags = os.O_WRONLY if self._open else os.O_RDONLY
        if not isinstance(stream, int):
            self.add(OpenFile(-1, flags=flags, made=Output(stream, number)))
            return
        regular = stat.S_ISREG(os.fstat(stream).st_mode)
        self.add(OpenFile(os.dup(stream), flags=flags, regular=regular, number=number))

    def close_all(self) -> None:
        """Close everything the program left open."""
        for fd in list(self._open):
            self.close(fd)

    def add(self, file: OpenFile, lowest: int = 0) -> int:
        """Give this file the lowest free descriptor. Raises OSError with EMFILE."""
        number = lowest
        while number in self._open:
            number += 1
        if number >= _FILES_MAX:
            raise OSError(errno.EMFILE, "")
        return self._put(number, file)

    def _put(self, number: int, file: OpenFile) -> int:
        file.users += 1
        self._open[number] = file
        return number

    def host(self, fd: int) -> int:
        """
        The descriptor of this process behind one that the program may read from.

        Raises OSError with EBADF.
        """
        return self._for(fd, os.O_RDONLY).fd

    def _for(self, fd: int, mode: int) -> OpenFile:
        """The file, if the program has opened it to read or write; streams can be open for both."""
        file = self._file(fd)
        if not file.is_for(mode):
            raise OSError(errno.EBADF, "")
        return file

    def _file(self, fd: int) -> OpenFile:
        file = self._open.get(fd & 0xFFFF_FFFF)
        if file is None:
            raise OSError(errno.EBADF, "")
        return file

    def calls(self) -> dict[str, Callable[..., int]]:
        """The calls served here, by name."""
        own = (
            self.read, self.write, self.readv, self.writev, self.pread64, self.lseek, self.open,
            self.openat, self.close, self.dup, self.dup2, self.dup3, self.fcntl, self.ioctl,
            self.stat, self.lstat, self.fstat, self.newfstatat, self.access, self.faccessat,
            self.readlink, self.readlinkat, self.getdents64, self.getcwd, self.chdir, self.fchdir,
            self.fadvise64,
        )  # fmt: skip
        return {**{call.__name__: call for call in own}, "faccessat2": self.faccessat}

    # --- bytes ---------------------------------------------------------------------------------

    def read(self, fd: int, address: int, length: int) -> int:
        return self._read(fd, self._space.slices(address, min(length, _IO_MAX), WRITE))

    def readv(self, fd: int, vector: int, count: int) -> int:
        return self._read(fd, self._vector(vector, count, WRITE))

    def _read(self, fd: int, pieces: list[memoryview]) -> int:
        file = self._for(fd, os.O_RDONLY)
        if not file.regular:
            if self.window:
                self.window.pause()
            if file.made:
                return file.made.read(pieces)
            self._deadline.wait(file.fd, select.POLLIN)
            return os.readv(file.fd, pieces)
        if self.window:
            return self.window.read(file, fd, pieces)
        return os.readv(file.fd, pieces)

    def pread64(self, fd: int, address: int, length: int, offset: int) -> int:
        pieces = self._space.slices(address, min(length, _IO_MAX), WRITE)
        file = self._for(fd, os.O_RDONLY)
        if file.made:
            return file.made.read(pieces)
        return os.preadv(file.fd, pieces, signed(offset, 64))

    def write(self, fd: int, address: int, length: int) -> int:
        return self._write(fd, self._space.slices(address, min(length, _IO_MAX)))

    def writev(self, fd: int, vector: int, count: int) -> int:
        return self._write(fd, self._vector(vector, count))

    def _write(self, fd: int, pieces: list[memoryview]) -> int:
        file = self._for(fd, os.O_WRONLY)
        if file.made:
            return file.made.write(pieces)
        if not file.regular and self._deadline.wait(file.fd, select.POLLOUT):
            # a ready pipe takes this much at once; a larger write would wait for the reader
            pieces = [pieces[0][: select.PIPE_BUF]] if pieces else []
        try:
            return os.writev(file.fd, pieces)
        except BrokenPipeError:
            self.kill(_SIGPIPE)
            raise

    def _vector(self, address: int, count: int, need: int = READ) -> list[memoryview]:
        """The pieces of an array of struct iovec."""
        if count > _IOV_MAX:
            raise OSError(errno.EINVAL, "")
        table = self._space.read(address, 16 * count)
        words = [int.from_bytes(table[at : at + 8], "little") for at in range(0, len(table), 8)]
        if sum(words[1::2]) > _IO_MAX:
            raise OSError(errno.EINVAL, "")
        pieces: list[memoryview] = []
        for start, length in zip(words[::2], words[1::2], strict=True):
            pieces += self._space.slices(start, length, need)
        return pieces

    def lseek(self, fd: int, offset: int, whence: int) -> int:
        file = self._file(fd)
        if file.made:
            return file.made.seek(signed(offset, 64), signed(whence, 32))
        return os.lseek(file.fd, signed(offset, 64), signed(whence, 32))

    def fadvise64(self, fd: int) -> int:
        self._file(fd)
        return 0

    # --- descriptors ---------------------------------------------------------------------------

    def open(self, path: int, flags: int, mode: int) -> int:
        return self.openat(_AT_FDCWD, path, flags, mode)

    def openat(self, directory: int, path: int, flags: int, mode: int) -> int:
        where = self._path(directory, path)
        flags &= 0xFFFF_FFFF
        if flags & os.O_ACCMODE == os.O_ACCMODE:
            raise OSError(errno.EINVAL, "")
        file = self._opened(where, flags, mode)
        try:
            return self.add(file)
        except OSError:
            self._release(file)
            raise

    def _opened(self, where: bytes, flags: int, mode: int) -> OpenFile:
        """Look, then open what was looked at, or create it."""
        try:
            found = self._view.find(where, flags & _LOOK)
        except (OSError, KernelError) as error:
            if error.errno != errno.ENOENT or not flags & os.O_CREAT:
                raise
            fd = self._view.create(where, flags & _OPEN, mode)
            return OpenFile(fd, where, flags, regular=True)
        with found:
            if flags & os.O_CREAT and flags & os.O_EXCL:
                raise OSError(errno.EEXIST, "")
            return _open_found(found, where, flags)

    def close(self, fd: int) -> int:
        file = self._file(fd)
        del self._open[fd & 0xFFFF_FFFF]
        file.users -= 1
        self._release(file)
        return 0

    def _release(self, file: OpenFile) -> None:
        if not file.users and file.fd >= 0:
            os.close(file.fd)

    def dup(self, fd: int) -> int:
        return self.add(self._file(fd))

    def dup2(self, old: int, new: int) -> int:
        file, new = self._file(old), new & 0xFFFF_FFFF
        if new >= _FILES_MAX:
            raise OSError(errno.EBADF, "")
        if self._open.get(new) is not file:
            if new in self._open:
                self.close(new)
            self._put(new, file)
        return new

    def dup3(self, old: int, new: int, flags: int) -> int:  # noqa: ARG002
        if old == new:
            raise OSError(errno.EINVAL, "")
        return self.dup2(old, new)

    def fcntl(self, fd: int, command: int, argument: int) -> int:
        file = self._file(fd)
        if command in (_F_DUPFD, _F_DUPFD_CLOEXEC):
            return self.add(file, min(argument, _FILES_MAX))
        if command in (_F_GETFD, _F_SETFD):  # there is no execve: close-on-exec has no effect
            return 0
        if command == _F_GETFL:
            return file.flags
        raise OSError(errno.EINVAL, "")

    def ioctl(self, fd: int) -> int:
        self._file(fd)
        raise OSError(errno.ENOTTY, "")  # no descriptor is a terminal to the program

    # --- names ---------------------------------------------------------------------------------

    def _path(self, directory: int, address: int) -> bytes:
        """An absolute path under the root, with `..` still in it for the kernel to resolve."""
        name = self._space.text(address)
        if not name:
            raise OSError(errno.ENOENT, "")
        if name.startswith(b"/"):
            return name
        return self._base(directory) + b"/" + name

    def _base(self, directory: int) -> bytes:
        number = signed(directory, 32)
        return self._cwd if number == _AT_FDCWD else self._file(number).path

    def stat(self, path: int, address: int) -> int:
        return self.newfstatat(_AT_FDCWD, path, address, 0)

    def lstat(self, path: int, address: int) -> int:
        return self.newfstatat(_AT_FDCWD, path, address, _AT_NOFOLLOW)

    def fstat(self, fd: int, address: int) -> int:
        self._space.write(address, self._stat(self._file(fd).status()))
        return 0

    def newfstatat(self, directory: int, path: int, address: int, flags: int) -> int:
        if flags & _AT_EMPTY_PATH and not self._space.text(path):
            return self.fstat(directory, address)
        nofollow = os.O_NOFOLLOW if flags & _AT_NOFOLLOW else 0
        with self._view.find(self._path(directory, path), nofollow) as found:
            self._space.write(address, self._stat(found.info))
        return 0

    def access(self, path: int, mode: int) -> int:
        return self.faccessat(_AT_FDCWD, path, mode)

    def faccessat(self, directory: int, path: int, mode: int) -> int:
        with self._view.find(self._path(directory, path)) as found:
            if mode & os.W_OK and not found.writable and not device(found.info):
                raise OSError(errno.EROFS, "")
            if mode & os.X_OK and not found.info.st_mode & 0o111:
                raise OSError(errno.EACCES, "")
        return 0

    def readlink(self, path: int, address: int, size: int) -> int:
        return self.readlinkat(_AT_FDCWD, path, address, size)

    def readlinkat(self, directory: int, path: int, address: int, size: int) -> int:
        with self._view.find(self._path(directory, path), os.O_NOFOLLOW) as found:
            if not stat.S_ISLNK(found.info.st_mode):
                raise OSError(errno.EINVAL, "")
            target = os.readlink(b"", dir_fd=found.fd)[:size]
        self._space.write(address, target)
        return len(target)

    def getdents64(self, fd: int, address: int, length: int) -> int:
        file = self._for(fd, os.O_RDONLY)
        pieces = self._space.slices(address, length, WRITE)
        if not pieces:
            raise OSError(errno.EINVAL, "")
        piece = pieces[0]
        if file.made:
            entries = file.made.entries(len(piece))
            piece[: len(entries)] = entries
            return len(entries)
        got = _lib.getdents64(file.fd, ffi.from_buffer(piece), len(piece))
        if got < 0:
            raise OSError(ffi.errno, "")
        return got  # type: ignore[no-any-return]

    def getcwd(self, address: int, size: int) -> int:
        text = self._cwd + b"\0"
        if len(text) > size:
            raise OSError(errno.ERANGE, "")
        self._space.write(address, text)
        return len(text)

    def chdir(self, path: int) -> int:
        return self._enter(self._path(_AT_FDCWD, path))

    def fchdir(self, fd: int) -> int:
        return self._enter(self._file(fd).path)

    def _enter(self, path: bytes) -> int:
        with self._view.find(path) as found:
            if not stat.S_ISDIR(found.info.st_mode):
                raise OSError(errno.ENOTDIR, "")
        self._cwd = os.path.normpath(path)  # `..` after a link is resolved by name, not by target
        return 0


def _open_found(found: Found, where: bytes, flags: int) -> OpenFile:
    """
    Open a file that was looked at. Raises OSError.

    It is a directory, a regular file or a device that is made here; with O_PATH, anything.
    """
    if found.fd < 0:
        if flags & (os.O_ACCMODE | os.O_CREAT | os.O_TRUNC):
            raise OSError(errno.EISDIR, "")
        return OpenFile(-1, where, flags, made=Folder(found.info, found.names))
    if flags & os.O_PATH:
        return OpenFile(found.take(), where, flags, number=found.number)
    made = device(found.info)
    if made:
        return OpenFile(-1, where, flags, made=made)
    regular = stat.S_ISREG(found.info.st_mode)
    fd = found.open(flags & _OPEN)
    return OpenFile(fd, where, flags, regular=regular, number=found.number)
