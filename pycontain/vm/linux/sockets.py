"""Sockets between processes of a program: socketpair(2). There is no network."""

from __future__ import annotations

import _socket  # `socket` without its enums, which cost 5 ms
import errno
import os
import select

from ..open_file import OpenFile
from ..paging import WRITE
from . import signals
from .data import pieces_of, when_ready
from .layout import signed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .task import Task

_NONBLOCK, _CLOEXEC, _KINDS = os.O_NONBLOCK, os.O_CLOEXEC, (1, 2, 5)  # stream, dgram, seqpacket
_AF_UNIX = 1
_MSG_PEEK, _MSG_DONTWAIT, _MSG_WAITALL, _MSG_NOSIGNAL = 2, 0x40, 0x100, 0x4000
_RECEIVE, _SEND = _MSG_PEEK | _MSG_DONTWAIT | 0x20, _MSG_DONTWAIT | _MSG_NOSIGNAL | 0x80


def socket_(task: Task, family: int, kind: int) -> int:
    """Refused as by a kernel without the family, or, for unix(7), where there is nobody."""
    if family != _AF_UNIX:
        raise OSError(errno.EAFNOSUPPORT, "")
    made = _socket.socket(_AF_UNIX, _kind(kind))
    return _add(task, made, kind)


def socketpair(task: Task, family: int, kind: int, protocol: int, address: int) -> int:
    if family != _AF_UNIX:
        raise OSError(errno.EAFNOSUPPORT, "")
    if protocol not in (0, 1):
        raise OSError(errno.EPROTONOSUPPORT, "")
    task.space.slices(address, 8, WRITE)
    ends = _socket.socketpair(_AF_UNIX, _kind(kind))
    numbers = [_add(task, end, kind) for end in ends]
    task.space.write(address, b"".join(number.to_bytes(4, "little") for number in numbers))
    return 0


def _kind(kind: int) -> int:
    if kind & 0xF not in _KINDS or kind & ~(_NONBLOCK | _CLOEXEC | 0xF):
        raise OSError(errno.EINVAL, "")
    return kind & 0xF


def _add(task: Task, made: _socket.socket, kind: int) -> int:
    made.setblocking(False)
    file = OpenFile(made.detach(), flags=os.O_RDWR | kind & _NONBLOCK, never_blocks=True)
    return task.files.add(file, closes=bool(kind & _CLOEXEC))


def _end(file: OpenFile) -> _socket.socket:
    """Python's object for a descriptor, which the caller detaches. Raises OSError: ENOTSOCK."""
    if file.fd < 0:
        raise OSError(errno.ENOTSOCK, "")
    return _socket.socket(fileno=file.fd)


def connect(task: Task, fd: int) -> int:
    _end(task.files.get(fd)).detach()
    raise OSError(errno.ECONNREFUSED, "")


def sendto(task: Task, fd: int, address: int, length: int, flags: int, target: int) -> int:
    if target:
        raise OSError(errno.EISCONN, "")
    return _send(task, fd, task.space.slices(address, length), flags)


def _send(task: Task, fd: int, pieces: list[memoryview], flags: int) -> int:
    file = task.files.get(fd)
    if flags & ~_SEND:
        raise OSError(errno.EINVAL, "")
    end = _end(file)
    kept = file.flags
    try:
        if flags & _MSG_DONTWAIT:
            file.flags |= _NONBLOCK
        return when_ready(
            task, file, select.POLLOUT, lambda: end.sendmsg(pieces, (), _MSG_NOSIGNAL)
        )
    except BrokenPipeError:
        if not flags & _MSG_NOSIGNAL:
            signals.send(task, signals.SIGPIPE)
        raise
    finally:
        file.flags = kept
        end.detach()


def recvfrom(
    task: Task, fd: int, address: int, length: int, flags: int, source: int, size: int
) -> int:
    got = _receive(task, fd, task.space.slices(address, length, WRITE), flags)
    if source and size:
        task.space.write(size, bytes(4))
    return got


def _receive(task: Task, fd: int, pieces: list[memoryview], flags: int) -> int:
    file = task.files.get(fd)
    if flags & ~(_RECEIVE | _MSG_WAITALL | 0x4000_0000):
        raise OSError(errno.EINVAL, "")
    end = _end(file)
    kept = file.flags
    try:
        if flags & _MSG_DONTWAIT:
            file.flags |= _NONBLOCK
        return when_ready(
            task,
            file,
            select.POLLIN,
            lambda: end.recvmsg_into(pieces, 0, flags & (_MSG_PEEK | 0x20))[0],
        )
    finally:
        file.flags = kept
        end.detach()


def _message(task: Task, address: int, need: int) -> list[memoryview]:
    """The pieces of a struct msghdr; it may carry neither addresses nor descriptors."""
    data = task.space.read(address, 56)
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, 56, 8)]
    return pieces_of(task, words[2], words[3], need)


def sendmsg(task: Task, fd: int, address: int, flags: int) -> int:
    if int.from_bytes(task.space.read(address + 40, 8), "little"):
        raise OSError(errno.EOPNOTSUPP, "")
    return _send(task, fd, _message(task, address, 1), flags)


def recvmsg(task: Task, fd: int, address: int, flags: int) -> int:
    got = _receive(task, fd, _message(task, address, WRITE), flags)
    task.space.write(address + 8, bytes(4))
    task.space.write(address + 40, bytes(8) + bytes(4))
    return got


def shutdown(task: Task, fd: int, how: int) -> int:
    end = _end(task.files.get(fd))
    try:
        end.shutdown(signed(how, 32))
    finally:
        end.detach()
    return 0
