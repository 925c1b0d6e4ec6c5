"""
Descriptors and files of a program: reading under a root, writing to what it was given.

A path is resolved by the kernel with the root as its root (openat2, RESOLVE_IN_ROOT), whatever
`..` and symbolic links it contains. The root is read-only, and of its special files only the
harmless devices open; /proc would show the monitor, so nothing of it opens.
"""

from __future__ import annotations

import errno
import os
import select
import stat

from ...kernel import const as c
from ...kernel.calls import filesystem_type, openat2
from .._ffi import ffi
from ..paging import READ, WRITE
from .layout import STAT, signed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..deadline import Deadline
    from ..devices.serial import Sink
    from ..space import Space
    from ..window import Window

_FILES_MAX = 1024
_IO_MAX = 0x7FFF_F000  # MAX_RW_COUNT: one call moves no more, read(2)
_IOV_MAX = 1024
_AT_FDCWD, _AT_EMPTY_PATH, _AT_NOFOLLOW = -100, 0x1000, 0x100
_RULES = c.RESOLVE_IN_ROOT | c.RESOLVE_NO_MAGICLINKS
_HARMLESS = {os.makedev(1, minor) for minor in (3, 5, 7, 8, 9)}  # null zero full random urandom
_F_DUPFD, _F_GETFD, _F_SETFD, _F_GETFL, _F_DUPFD_CLOEXEC = 0, 1, 2, 3, 1030
_SIGPIPE = 13
_lib = ffi.dlopen(None)


class OpenFile:
    """
    What descriptors stand for; several may stand for one.

    fd    the descriptor of this process, or -1 for one that only writes to sink
    path  where it is under the root, for calls that are relative to it
    """

    __slots__ = ("fd", "flags", "path", "regular", "sink", "users")

    def __init__(
        self, fd: int, path: bytes = b"", flags: int = 0, *, regular: bool = False,
        sink: Sink | None = None,
    ) -> None:  # fmt: skip
        self.fd = fd
        self.path = path
        self.flags = flags
        self.regular = regular
        self.sink = sink
        self.users = 0


class Files:
    """
    The descriptors of one program.

    root and cwd are a directory of this host and a path under it; standard descriptors are
    copied, so that the program cannot close ours.

    window  where regular files are read ahead, if there is one
    kill    called with SIGPIPE when the reader of a pipe left
    """

    def __init__(
        self, machine: str, space: Space, deadline: Deadline, root: int, cwd: bytes
    ) -> None:
        self._stat = STAT[machine]
        self._space = space
        self._deadline = deadline
        self._root = root
        self._cwd = cwd
        self._open: dict[int, OpenFile] = {}
        self.window: Window | None = None
        self.kill: Callable[[int], None]

    def add_stream(self, stream: int | Sink) -> None:
        """The next standard descriptor: one of this process, or a function that takes output."""
        if not isinstance(stream, int):
            self.add(OpenFile(-1, flags=os.O_WRONLY, sink=stream))
            return
        info = os.fstat(stream)
        flags = os.O_WRONLY if self._open else os.O_RDONLY
        self.add(OpenFile(os.dup(stream), flags=flags, regular=stat.S_ISREG(info.st_mode)))

    def close_all(self) -> None:
        """Close everything the program left open."""
        for fd in list(self._open):
            self.close(fd)

    def add(self, file: OpenFile, lowest: int = 0) -> int:
        """The lowest free descriptor, now standing for this file. Raises OSError with EMFILE."""
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
        """The descriptor of this process behind one of the program's. Raises OSError: EBADF."""
        return self._file(fd).fd

    def _file(self, fd: int) -> OpenFile:
        file = self._open.get(fd & 0xFFFF_FFFF)
        if file is None:
            raise OSError(errno.EBADF, "")
        return file

    def calls(self) -> dict[str, Callable[..., int]]:
        """By their names."""
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
        file = self._file(fd)
        if file.sink:
            raise OSError(errno.EBADF, "")
        if not file.regular:
            if self.window:
                self.window.pause()
            self._deadline.wait(file.fd, select.POLLIN)
            return os.readv(file.fd, pieces)
        if self.window:
            return self.window.read(file, fd, pieces)
        return os.readv(file.fd, pieces)

    def pread64(self, fd: int, address: int, length: int, offset: int) -> int:
        pieces = self._space.slices(address, min(length, _IO_MAX), WRITE)
        return os.preadv(self.host(fd), pieces, signed(offset, 64))

    def write(self, fd: int, address: int, length: int) -> int:
        return self._write(fd, self._space.slices(address, min(length, _IO_MAX)))

    def writev(self, fd: int, vector: int, count: int) -> int:
        return self._write(fd, self._vector(vector, count))

    def _write(self, fd: int, pieces: list[memoryview]) -> int:
        file = self._file(fd)
        if file.sink:
            for piece in pieces:
                file.sink(piece)
            return sum(map(len, pieces))
        if not file.regular and self._deadline.wait(file.fd, select.POLLOUT):
            # ready is what takes this much at once; a larger write would wait for its reader
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
        return os.lseek(self.host(fd), signed(offset, 64), signed(whence, 32))

    def fadvise64(self, fd: int) -> int:
        self._file(fd)
        return 0

    # --- descriptors ---------------------------------------------------------------------------

    def open(self, path: int, flags: int) -> int:
        return self.openat(_AT_FDCWD, path, flags)

    def openat(self, directory: int, path: int, flags: int) -> int:
        where = self._path(directory, path)
        if flags & (os.O_ACCMODE | os.O_CREAT | os.O_TRUNC):
            raise OSError(errno.EROFS, "")
        wanted = flags & (os.O_DIRECTORY | os.O_NOFOLLOW | os.O_PATH)
        # not blocking: the other end of a FIFO may never come, and FIFOs are refused below
        fd = openat2(self._root, where, wanted | os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, _RULES)
        try:
            info = _checked(fd)
            return self.add(OpenFile(fd, where, flags, regular=stat.S_ISREG(info.st_mode)))
        except BaseException:
            os.close(fd)
            raise

    def close(self, fd: int) -> int:
        file = self._file(fd)
        del self._open[fd & 0xFFFF_FFFF]
        file.users -= 1
        if not file.users and file.fd >= 0:
            os.close(file.fd)
        return 0

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
        if command in (_F_GETFD, _F_SETFD):  # nothing is executed: close-on-exec is void
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

    def _stat_path(self, path: bytes, flags: int = 0) -> os.stat_result:
        fd = openat2(self._root, path, flags | os.O_PATH, _RULES)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def stat(self, path: int, address: int) -> int:
        return self.newfstatat(_AT_FDCWD, path, address, 0)

    def lstat(self, path: int, address: int) -> int:
        return self.newfstatat(_AT_FDCWD, path, address, _AT_NOFOLLOW)

    def fstat(self, fd: int, address: int) -> int:
        file = self._file(fd)
        self._space.write(address, self._stat(os.fstat(1 if file.sink else file.fd)))
        return 0

    def newfstatat(self, directory: int, path: int, address: int, flags: int) -> int:
        if flags & _AT_EMPTY_PATH and not self._space.text(path):
            return self.fstat(directory, address)
        where = self._path(directory, path)
        nofollow = os.O_NOFOLLOW if flags & _AT_NOFOLLOW else 0
        self._space.write(address, self._stat(self._stat_path(where, nofollow)))
        return 0

    def access(self, path: int, mode: int) -> int:
        return self.faccessat(_AT_FDCWD, path, mode)

    def faccessat(self, directory: int, path: int, mode: int) -> int:
        info = self._stat_path(self._path(directory, path))
        if mode & os.W_OK:
            raise OSError(errno.EROFS, "")
        if mode & os.X_OK and not info.st_mode & 0o111:
            raise OSError(errno.EACCES, "")
        return 0

    def readlink(self, path: int, address: int, size: int) -> int:
        return self.readlinkat(_AT_FDCWD, path, address, size)

    def readlinkat(self, directory: int, path: int, address: int, size: int) -> int:
        where = self._path(directory, path)
        fd = openat2(self._root, where, os.O_PATH | os.O_NOFOLLOW, _RULES)
        try:
            _refuse_proc(fd)
            target = os.readlink(b"", dir_fd=fd)[:size]
        finally:
            os.close(fd)
        self._space.write(address, target)
        return len(target)

    def getdents64(self, fd: int, address: int, length: int) -> int:
        pieces = self._space.slices(address, length, WRITE)
        if not pieces:
            raise OSError(errno.EINVAL, "")
        piece = pieces[0]
        got = _lib.getdents64(self.host(fd), ffi.from_buffer(piece), len(piece))
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
        if not stat.S_ISDIR(self._stat_path(path).st_mode):
            raise OSError(errno.ENOTDIR, "")
        self._cwd = os.path.normpath(path)  # `..` behind a link is folded by name, not by target
        return 0


def _checked(fd: int) -> os.stat_result:
    """What an opened file is. Raises OSError with EACCES for one that is not to be read."""
    info = os.fstat(fd)
    kind = stat.S_IFMT(info.st_mode)
    harmless = kind == stat.S_IFCHR and info.st_rdev in _HARMLESS
    if kind not in (stat.S_IFREG, stat.S_IFDIR) and not harmless:
        raise OSError(errno.EACCES, "")
    _refuse_proc(fd)
    return info


def _refuse_proc(fd: int) -> None:
    if filesystem_type(fd) == c.PROC_SUPER_MAGIC:
        raise OSError(errno.EACCES, "")
