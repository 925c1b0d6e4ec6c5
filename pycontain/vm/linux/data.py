"""Calls that move bytes between a program and its files."""

from __future__ import annotations

import errno
import fcntl as fcntls
import os
import select
import stat
from _functools import partial  # all of functools costs 2 ms

from .._ffi import ffi
from ..paging import READ, WRITE
from . import signals
from .ending import Interrupted
from .files import FILES_MAX
from .layout import signed
from .waiting import wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..open_file import OpenFile
    from .task import Task

_IO_MAX = 0x7FFF_F000  # MAX_RW_COUNT: the most that one call transfers, read(2)
_IOV_MAX = 1024
_COPY = 1 << 20
_lib = ffi.dlopen(None)


def read(task: Task, fd: int, address: int, length: int) -> int:
    return _read(task, fd, lambda: task.space.slices(address, min(length, _IO_MAX), WRITE))


def readv(task: Task, fd: int, vector: int, count: int) -> int:
    return _read(task, fd, lambda: pieces_of(task, vector, count, WRITE))


def _read(task: Task, fd: int, into: Callable[[], list[memoryview]]) -> int:
    """Read; while it waits, another thread may unmap what it reads into."""
    file = task.files.use(fd, os.O_RDONLY)
    window = task.files.window
    if file.regular:
        return window.read(file, fd, into()) if window else os.readv(file.fd, into())
    if window:
        window.pause()
    if file.made:
        return file.made.read(into())
    return when_ready(task, file, select.POLLIN, lambda: os.readv(file.fd, into()))


def when_ready(
    task: Task, file: OpenFile, events: int, act: Callable[[], int], *, waits: bool = True
) -> int:
    """Do what may block at a descriptor once it does not. Raises OSError, Interrupted."""
    waits = waits and not file.flags & os.O_NONBLOCK
    ready = file.never_blocks
    file.users += 1  # another thread may close it
    try:
        while True:
            if not ready and not wait(task, [(file.fd, events)], None if waits else 0):
                raise OSError(errno.EAGAIN, "")
            ready = False
            try:
                return act()
            except BlockingIOError:  # or another process was faster
                if not waits:
                    raise
    finally:
        file.let_go()


def pread64(task: Task, fd: int, address: int, length: int, offset: int) -> int:
    pieces = task.space.slices(address, min(length, _IO_MAX), WRITE)
    return _preadv(task, fd, pieces, offset)


def preadv(task: Task, fd: int, vector: int, count: int, offset: int) -> int:
    return _preadv(task, fd, pieces_of(task, vector, count, WRITE), offset)


def _preadv(task: Task, fd: int, pieces: list[memoryview], offset: int) -> int:
    file = task.files.use(fd, os.O_RDONLY)
    if file.made:
        return file.made.read(pieces)
    return os.preadv(file.fd, pieces, signed(offset, 64))


def write(task: Task, fd: int, address: int, length: int) -> int:
    return _write(task, fd, task.space.slices(address, min(length, _IO_MAX)))


def writev(task: Task, fd: int, vector: int, count: int) -> int:
    return _write(task, fd, pieces_of(task, vector, count))


def _write(task: Task, fd: int, pieces: list[memoryview]) -> int:
    file = task.files.use(fd, os.O_WRONLY)
    if file.made:
        return file.made.write(pieces)
    try:
        if file.regular:
            _check_room(task, file, pieces)
            return os.writev(file.fd, pieces)
        return _write_all(task, file, pieces)
    except BrokenPipeError:
        signals.direct(task, task, signals.SIGPIPE, signals.SI_KERNEL)
        raise


def _check_room(
    task: Task, file: OpenFile, pieces: list[memoryview], offset: int | None = None
) -> None:
    if file.in_memory:
        start = os.lseek(file.fd, 0, os.SEEK_CUR) if offset is None else signed(offset, 64)
        if file.flags & os.O_APPEND:
            start = os.fstat(file.fd).st_size
        task.files.check_room(file, start + sum(map(len, pieces)), task.process.memory)


def _write_all(task: Task, file: OpenFile, pieces: list[memoryview]) -> int:
    """A pipe takes PIPE_BUF bytes at once when it is ready; write(2) goes on until all is taken."""
    data = pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))
    done = 0
    while True:
        part = data[done:] if file.never_blocks else data[done : done + select.PIPE_BUF]
        act = partial(os.write, file.fd, part)
        try:
            done += when_ready(task, file, select.POLLOUT, act)
        except (Interrupted, OSError):
            if done:
                return done
            raise
        if done >= len(data):
            return done


def pwrite64(task: Task, fd: int, address: int, length: int, offset: int) -> int:
    return _pwritev(task, fd, task.space.slices(address, min(length, _IO_MAX)), offset)


def pwritev(task: Task, fd: int, vector: int, count: int, offset: int) -> int:
    return _pwritev(task, fd, pieces_of(task, vector, count), offset)


def _pwritev(task: Task, fd: int, pieces: list[memoryview], offset: int) -> int:
    file = task.files.use(fd, os.O_WRONLY)
    if file.made:
        return file.made.write(pieces)
    _check_room(task, file, pieces, offset)
    return os.pwritev(file.fd, pieces, signed(offset, 64))


def pieces_of(task: Task, address: int, count: int, need: int = READ) -> list[memoryview]:
    """The pieces of an array of struct iovec."""
    if count > _IOV_MAX:
        raise OSError(errno.EINVAL, "")
    table = task.space.read(address, 16 * count)
    words = [int.from_bytes(table[at : at + 8], "little") for at in range(0, len(table), 8)]
    if sum(words[1::2]) > _IO_MAX:
        raise OSError(errno.EINVAL, "")
    pieces: list[memoryview] = []
    for start, length in zip(words[::2], words[1::2], strict=True):
        pieces += task.space.slices(start, length, need)
    return pieces


def lseek(task: Task, fd: int, offset: int, whence: int) -> int:
    file = task.files.get(fd)
    if file.made:
        return file.made.seek(signed(offset, 64), signed(whence, 32))
    return os.lseek(file.fd, signed(offset, 64), signed(whence, 32))


def fadvise64(task: Task, fd: int) -> int:
    task.files.get(fd)
    return 0


def sendfile(task: Task, out: int, into: int, offset: int, count: int) -> int:
    source = task.files.use(into, os.O_RDONLY)
    if source.fd < 0 or not source.regular:
        raise OSError(errno.EINVAL, "")
    at = int.from_bytes(task.space.read(offset, 8), "little") if offset else None
    where = os.lseek(source.fd, 0, os.SEEK_CUR) if at is None else at
    data = os.pread(source.fd, min(count, _COPY), where)
    done = _write(task, out, [memoryview(data)]) if data else 0
    if at is None:
        os.lseek(source.fd, where + done, os.SEEK_SET)
    else:
        task.space.write(offset, (at + done).to_bytes(8, "little"))
    return done


def copy_file_range(task: Task, into: int, at: int, out: int, to: int, length: int) -> int:
    source, target = task.files.use(into, os.O_RDONLY), task.files.use(out, os.O_WRONLY)
    if not source.regular or not target.regular or target.flags & os.O_APPEND:
        raise OSError(errno.EINVAL if source.regular and target.regular else errno.EBADF, "")
    offsets = [
        int.from_bytes(task.space.read(where, 8), "little") if where else None for where in (at, to)
    ]
    if target.in_memory:
        raise OSError(errno.EXDEV, "")  # then programs copy by write(2)
    done = os.copy_file_range(source.fd, target.fd, min(length, _IO_MAX), *offsets)
    for where, offset in zip((at, to), offsets, strict=True):
        if offset is not None:
            task.space.write(where, (offset + done).to_bytes(8, "little"))
    return done


def getdents64(task: Task, fd: int, address: int, length: int) -> int:
    file = task.files.use(fd, os.O_RDONLY)
    pieces = task.space.slices(address, length, WRITE)
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


def ftruncate(task: Task, fd: int, length: int) -> int:
    file = task.files.use(fd, os.O_WRONLY)
    if not file.regular:
        raise OSError(errno.EINVAL, "")
    task.files.check_room(file, signed(length, 64), task.process.memory)
    os.ftruncate(file.fd, signed(length, 64))
    return 0


def fallocate(task: Task, fd: int, mode: int, offset: int, length: int) -> int:
    file = task.files.use(fd, os.O_WRONLY)
    if not file.regular:
        raise OSError(errno.ENODEV, "")
    if mode:
        raise OSError(errno.EOPNOTSUPP, "")
    end = signed(offset, 64) + signed(length, 64)
    task.files.check_room(file, end, task.process.memory)
    os.posix_fallocate(file.fd, signed(offset, 64), signed(length, 64))
    return 0


def fsync(task: Task, fd: int) -> int:
    file = task.files.get(fd)
    if file.made or stat.S_ISFIFO(file.status().st_mode):
        raise OSError(errno.EINVAL, "")
    os.fsync(file.fd)
    return 0


# --- descriptors -------------------------------------------------------------------------------

_F_DUPFD, _F_GETFD, _F_SETFD, _F_GETFL, _F_SETFL, _F_DUPFD_CLOEXEC = 0, 1, 2, 3, 4, 1030
_F_GETLK, _F_SETLK, _F_SETLKW, _F_SETPIPE, _F_GETPIPE = 5, 6, 7, 1031, 1032
_PASSED = {_F_SETPIPE, _F_GETPIPE, fcntls.F_ADD_SEALS, fcntls.F_GET_SEALS}
_SETTABLE = os.O_APPEND | os.O_NONBLOCK


def close(task: Task, fd: int) -> int:
    task.files.close(fd)
    return 0


def close_range(task: Task, first: int, last: int, flags: int) -> int:
    first, last = first & 0xFFFF_FFFF, last & 0xFFFF_FFFF
    if first > last or flags & ~6:
        raise OSError(errno.EINVAL, "")
    for number in task.files.numbers():
        if first <= number <= last:
            if flags & 4:  # CLOSE_RANGE_CLOEXEC
                task.files.set_closes(number, True)
            else:
                task.files.close(number)
    return 0


def dup(task: Task, fd: int) -> int:
    return task.files.add(task.files.get(fd))


def dup2(task: Task, old: int, new: int) -> int:
    return _dup(task, old, new, closes=False)


def dup3(task: Task, old: int, new: int, flags: int) -> int:
    if old == new or flags & ~os.O_CLOEXEC:
        raise OSError(errno.EINVAL, "")
    return _dup(task, old, new, closes=bool(flags))


def _dup(task: Task, old: int, new: int, *, closes: bool) -> int:
    files = task.files
    file, new = files.get(old), new & 0xFFFF_FFFF
    if new >= FILES_MAX:
        raise OSError(errno.EBADF, "")
    if new != old & 0xFFFF_FFFF:
        file.users += 1  # the same file may be behind both
        if files.has(new):
            files.close(new)
        file.users -= 1
        files.put(new, file, closes=closes)
    return new


def fcntl(task: Task, fd: int, command: int, argument: int) -> int:
    files = task.files
    file = files.get(fd)
    if command in (_F_DUPFD, _F_DUPFD_CLOEXEC):
        if argument >= FILES_MAX:
            raise OSError(errno.EINVAL, "")
        return files.add(file, argument, closes=command == _F_DUPFD_CLOEXEC)
    if command == _F_GETFD:
        return int(files.closes(fd))
    if command == _F_SETFD:
        files.set_closes(fd, bool(argument & 1))
        return 0
    if command == _F_GETFL:
        return file.flags
    if command == _F_SETFL:
        file.flags = file.flags & ~_SETTABLE | argument & _SETTABLE
        return 0
    if command in (_F_GETLK, _F_SETLK, _F_SETLKW):
        return _record_lock(task, file, command, argument)
    if command in _PASSED and file.fd >= 0:
        return fcntls.fcntl(file.fd, command, argument)
    raise OSError(errno.EINVAL, "")


def _record_lock(task: Task, file: OpenFile, command: int, address: int) -> int:
    """fcntl(2), advisory record locking: this process of the host has the lock."""
    if file.fd < 0 or not file.regular:
        raise OSError(errno.EINVAL, "")
    lock = task.space.read(address, 32)
    if command == _F_SETLKW:
        while True:
            try:
                fcntls.fcntl(file.fd, _F_SETLK, lock)
                return 0
            except (BlockingIOError, PermissionError):
                wait(task, (), 0.01)
    found = fcntls.fcntl(file.fd, command, lock)
    if command == _F_GETLK:
        task.space.write(address, found[:28])
    return 0


def flock(task: Task, fd: int, operation: int) -> int:
    file = task.files.get(fd)
    if file.fd < 0:
        raise OSError(errno.EINVAL, "")
    while True:
        try:
            fcntls.flock(file.fd, operation | fcntls.LOCK_NB)
            return 0
        except BlockingIOError:
            if operation & fcntls.LOCK_NB:
                raise
            wait(task, (), 0.01)
