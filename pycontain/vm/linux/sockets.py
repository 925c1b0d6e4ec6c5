"""
Sockets: pairs, which need no rights, and by World.network those of unix(7), ip(7) and ipv6(7).

The host's sockets do not block; the monitor waits where signals reach it. Addresses pass as they
are, but the path of a socket is one of the view: it is made only where the program may write, and
no socket elsewhere, where a daemon of this host listens, can be connected.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import select
import stat

from .._ffi import ffi
from ..open_file import OpenFile
from ..paging import WRITE
from . import signals
from .channels import at, host
from .data import pieces_of, when_ready
from .layout import signed
from .paths import AT_FDCWD, absolute, find
from .waiting import wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .task import Task

    Pieces = Callable[[], list[memoryview]]

_NONBLOCK, _CLOEXEC, _KINDS = os.O_NONBLOCK, os.O_CLOEXEC, (1, 2, 5)  # stream, dgram, seqpacket
_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_ADDRESS_MAX, _CONTROL_MAX, _FILES_MAX = 128, 4096, 253  # bytes, bytes, SCM_MAX_FD
_PEEK, _TRUNC, _DONTWAIT, _NOSIGNAL, _CMSG_CLOEXEC = 2, 0x20, 0x40, 0x4000, 0x4000_0000
_RECEIVE = _PEEK | _TRUNC | _DONTWAIT | 0x100 | _CMSG_CLOEXEC  # and MSG_WAITALL
_SEND = _DONTWAIT | _NOSIGNAL | 0x80 | 0x8000  # and MSG_EOR, MSG_MORE
_SOL_SOCKET, _SCM_RIGHTS, _SO_ERROR, _CTRUNC = 1, 1, 4, 8
_RIGHTS = bytes((_SOL_SOCKET, 0, 0, 0, _SCM_RIGHTS, 0, 0, 0))
# level -> options that may be set or read: socket(7), ip(7), tcp(7), udp(7), ipv6(7)
_OPTIONS = {
    _SOL_SOCKET: {2, 3, 4, 6, 7, 8, 9, 10, 13, 15, 18, 30, 38, 39, 46},
    0: {1, 2, 8, 10, 11, 12, 14, 15}, 6: {*range(1, 19), 23, 25, 26, 30}, 17: {1, 103},
    41: {16, 23, 24, 25, 26, 36, 49, 66, 67},
}  # fmt: skip
# this host's calls
_X86 = os.uname().machine == "x86_64"
(_SOCKET, _PAIR, _BIND, _LISTEN, _ACCEPT4, _CONNECT, _SOCKNAME, _PEERNAME, _SETOPT, _GETOPT,
 _SHUTDOWN, _SENDMSG, _RECVMSG) = (
    (41, 53, 49, 50, 288, 42, 51, 52, 54, 55, 48, 46, 47) if _X86 else
    (198, 199, 200, 201, 242, 203, 204, 205, 208, 209, 210, 211, 212)
)  # fmt: skip


def _family(task: Task, family: int) -> None:
    if family != _AF_UNIX and not (task.process.network and family in (_AF_INET, _AF_INET6)):
        raise OSError(errno.EAFNOSUPPORT, "")


def socket_(task: Task, family: int, kind: int, protocol: int) -> int:
    """Refused as by a kernel without the family."""
    _family(task, family)
    flags = _kind(kind)
    return _add(task, host(_SOCKET, family, flags, signed(protocol, 32)), kind)


def socketpair(task: Task, family: int, kind: int, protocol: int, address: int) -> int:
    if family != _AF_UNIX:
        raise OSError(errno.EAFNOSUPPORT, "")
    task.space.slices(address, 8, WRITE)
    ends = ffi.new("int[2]")
    host(_PAIR, family, _kind(kind), signed(protocol, 32), at(ends))
    numbers = [_add(task, end, kind) for end in ends]
    task.space.write(address, b"".join(number.to_bytes(4, "little") for number in numbers))
    return 0


def _kind(kind: int) -> int:
    """For the host's call. Raises OSError for a kind that needs more rights."""
    if kind & 0xF not in _KINDS or kind & ~(_NONBLOCK | _CLOEXEC | 0xF):
        raise OSError(errno.EINVAL, "")
    return kind & 0xF | _NONBLOCK | _CLOEXEC


def _add(task: Task, fd: int, kind: int) -> int:
    file = OpenFile(fd, flags=os.O_RDWR | kind & _NONBLOCK, never_blocks=True)
    return task.files.add(file, closes=bool(kind & _CLOEXEC))


def _get(task: Task, fd: int) -> OpenFile:
    """Raises OSError: EBADF, ENOTSOCK before anything waits at a file that is none."""
    file = task.files.get(fd)
    if file.fd < 0 or file.regular:
        raise OSError(errno.ENOTSOCK, "")
    if not file.never_blocks and not stat.S_ISSOCK(os.fstat(file.fd).st_mode):
        raise OSError(errno.ENOTSOCK, "")
    return file


# --- addresses -----------------------------------------------------------------------------------


def _address(task: Task, address: int, length: int) -> bytes:
    if not 2 <= length <= _ADDRESS_MAX:
        raise OSError(errno.EINVAL, "")
    data = task.space.read(address, length)
    _family(task, int.from_bytes(data[:2], "little") or _AF_UNIX)  # AF_UNSPEC ends a connection
    return data


def _path(data: bytes) -> bytes:
    """The path of a unix(7) address, or b"" for another."""
    is_unix = int.from_bytes(data[:2], "little") == _AF_UNIX
    return data[2:].partition(b"\0")[0] if is_unix else b""


def _unix(path: str, name: bytes = b"") -> bytes:
    return _AF_UNIX.to_bytes(2, "little") + path.encode() + name + b"\0"


def bind(task: Task, fd: int, address: int, length: int) -> int:
    file = _get(task, fd)
    data = _address(task, address, length)
    path = _path(data)
    if not path:
        host(_BIND, file.fd, at(data), len(data))
        return 0
    where = absolute(task, AT_FDCWD, path)
    with task.process.view.folder_of(where, errno.EADDRINUSE) as (folder, name):
        made = _unix(f"/proc/self/fd/{folder.fd}/", name)
        if len(made) > 110:
            raise OSError(errno.ENAMETOOLONG, "")
        host(_BIND, file.fd, at(made), len(made))
    file.path = path
    return 0


def listen(task: Task, fd: int, backlog: int) -> int:
    return host(_LISTEN, _get(task, fd).fd, signed(backlog, 32))


def connect(task: Task, fd: int, address: int, length: int) -> int:
    file = _get(task, fd)
    if not task.process.network:
        raise OSError(errno.ECONNREFUSED, "")
    data = _address(task, address, length)
    with _Target(task, data) as target:
        try:
            return host(_CONNECT, file.fd, at(target), len(target))
        except BlockingIOError:
            if file.flags & _NONBLOCK:
                raise
    if not _path(data):
        wait(task, [(file.fd, select.POLLOUT)])
        error = _option(file, _SOL_SOCKET, _SO_ERROR, 4)
        if any(error):
            raise OSError(int.from_bytes(error, "little"), "")
        return 0
    while True:  # the queue of a unix socket is full
        wait(task, (), 0.005)
        with _Target(task, data) as target:
            try:
                return host(_CONNECT, file.fd, at(target), len(target))
            except BlockingIOError:
                pass


class _Target:
    """The address to send to or connect, for the host; a context manager."""

    def __init__(self, task: Task, data: bytes) -> None:
        self._data = data
        self._found = None
        path = _path(data)
        if path:
            self._found = found = find(task, absolute(task, AT_FDCWD, path))
            self._data = _unix(f"/proc/self/fd/{found.fd}")
            if found.fd < 0 or not found.writable or not stat.S_ISSOCK(found.info.st_mode):
                self.__exit__()
                raise OSError(errno.ECONNREFUSED, "")

    def __enter__(self) -> bytes:
        return self._data

    def __exit__(self, *_: object) -> None:
        if self._found:
            self._found.__exit__()


def accept(task: Task, fd: int, address: int, size: int) -> int:
    return accept4(task, fd, address, size, 0)


def accept4(task: Task, fd: int, address: int, size: int, flags: int) -> int:
    if flags & ~(_NONBLOCK | _CLOEXEC):
        raise OSError(errno.EINVAL, "")
    file = _get(task, fd)
    found, length = ffi.new(f"char[{_ADDRESS_MAX}]"), ffi.new("int *", _ADDRESS_MAX)

    def act() -> int:
        return host(_ACCEPT4, file.fd, at(found), at(length), _NONBLOCK | _CLOEXEC)

    number = _add(task, when_ready(task, file, select.POLLIN, act), flags)
    _give(task, bytes(ffi.buffer(found, length[0])), address, size)
    return number


def _give(task: Task, name: bytes, address: int, size: int) -> None:
    """Write an address that the host gave to where the program wants it."""
    if not address:
        return
    if _path(name):
        name = name[:2]  # the path is this host's
    room = int.from_bytes(task.space.read(size, 4), "little", signed=True)
    if room < 0:
        raise OSError(errno.EINVAL, "")
    task.space.write(address, name[:room])
    task.space.write(size, len(name).to_bytes(4, "little"))


def getsockname(task: Task, fd: int, address: int, size: int) -> int:
    return _name(task, fd, address, size, _SOCKNAME)


def getpeername(task: Task, fd: int, address: int, size: int) -> int:
    return _name(task, fd, address, size, _PEERNAME)


def _name(task: Task, fd: int, address: int, size: int, call: int) -> int:
    file = _get(task, fd)
    found, length = ffi.new(f"char[{_ADDRESS_MAX}]"), ffi.new("int *", _ADDRESS_MAX)
    host(call, file.fd, at(found), at(length))
    name = bytes(ffi.buffer(found, length[0]))
    if call == _SOCKNAME and _path(name):
        room = int.from_bytes(task.space.read(size, 4), "little")
        name = name[:2] + file.path + b"\0"
        task.space.write(address, name[:room])
        task.space.write(size, len(name).to_bytes(4, "little"))
    else:
        _give(task, name, address, size)
    return 0


# --- options -------------------------------------------------------------------------------------


def _check(level: int, option: int) -> None:
    if option not in _OPTIONS.get(level, ()):
        raise OSError(errno.ENOPROTOOPT, "")


def setsockopt(task: Task, fd: int, level: int, option: int, address: int, length: int) -> int:
    file = _get(task, fd)
    _check(level, option)
    if length > _ADDRESS_MAX:
        raise OSError(errno.EINVAL, "")
    data = task.space.read(address, length)
    return host(_SETOPT, file.fd, level, option, at(data), len(data))


def getsockopt(task: Task, fd: int, level: int, option: int, address: int, size: int) -> int:
    file = _get(task, fd)
    _check(level, option)
    room = int.from_bytes(task.space.read(size, 4), "little")
    data = _option(file, level, option, min(room, 256))
    task.space.write(address, data)
    task.space.write(size, len(data).to_bytes(4, "little"))
    return 0


def _option(file: OpenFile, level: int, option: int, room: int) -> bytes:
    data, length = ffi.new(f"char[{room or 1}]"), ffi.new("int *", room)
    host(_GETOPT, file.fd, level, option, at(data), at(length))
    return bytes(ffi.buffer(data, length[0]))


def shutdown(task: Task, fd: int, how: int) -> int:
    return host(_SHUTDOWN, _get(task, fd).fd, signed(how, 32))


# --- messages ------------------------------------------------------------------------------------


class _Header:
    """A struct msghdr of this host, and what it refers to."""

    def __init__(self, pieces: list[memoryview], name: bytes | int, control: bytes | int) -> None:
        self._kept = [ffi.from_buffer(piece) for piece in pieces]
        self._vector = array.array("Q")
        for piece, kept in zip(pieces, self._kept, strict=True):
            self._vector.extend((at(kept), len(piece)))
        self.name, named = _buffer(name)
        self.control, controlled = _buffer(control)
        vector = self._vector.buffer_info()[0] if pieces else 0
        self.header = array.array(
            "Q", (at(self.name) if named else 0, named, vector, len(pieces),
                  at(self.control) if controlled else 0, controlled, 0),
        )  # fmt: skip

    def address(self) -> int:
        """Of the structure."""
        return self.header.buffer_info()[0]


def _buffer(given: bytes | int) -> tuple[object, int]:
    if isinstance(given, int):
        return ffi.new(f"char[{given or 1}]"), given
    return ffi.new("char[]", given), len(given)


def sendto(
    task: Task, fd: int, address: int, length: int, flags: int, target: int, size: int
) -> int:
    name = _address(task, target, size) if target else b""
    return _send(task, fd, lambda: task.space.slices(address, length), flags, name)


def sendmsg(task: Task, fd: int, address: int, flags: int) -> int:
    words = _words(task, address)
    name = _address(task, words[0], words[1] & 0xFFFF_FFFF) if words[0] else b""
    control = _rights_to_host(task, words[4], words[5])
    return _send(task, fd, lambda: pieces_of(task, words[2], words[3]), flags, name, control)


def _words(task: Task, address: int) -> list[int]:
    data = task.space.read(address, 56)
    return [int.from_bytes(data[start : start + 8], "little") for start in range(0, 56, 8)]


def _send(
    task: Task, fd: int, pieces: Pieces, flags: int, name: bytes, control: bytes = b""
) -> int:
    file = _get(task, fd)
    if flags & ~_SEND:
        raise OSError(errno.EINVAL, "")
    if name and not task.process.network:
        raise OSError(errno.EISCONN, "")

    def act() -> int:
        with _Target(task, name) as target:
            header = _Header(pieces(), target, control)
            return host(_SENDMSG, file.fd, header.address(), flags | _NOSIGNAL | _DONTWAIT)

    try:
        return when_ready(task, file, select.POLLOUT, act, waits=not flags & _DONTWAIT)
    except BrokenPipeError:
        if not flags & _NOSIGNAL:
            signals.direct(task, task, signals.SIGPIPE, signals.SI_KERNEL)
        raise


def recvfrom(
    task: Task, fd: int, address: int, length: int, flags: int, source: int, size: int
) -> int:
    got, header = _receive(task, fd, lambda: task.space.slices(address, length, WRITE), flags)
    if source and size:
        _give(task, header[0], source, size)
    return got


def recvmsg(task: Task, fd: int, address: int, flags: int) -> int:
    words = _words(task, address)
    got, (name, control, returned) = _receive(
        task, fd, lambda: pieces_of(task, words[2], words[3], WRITE), flags,
        min(words[5], _CONTROL_MAX),
    )  # fmt: skip
    if words[0]:
        _give(task, name, words[0], address + 8)
    rights = _rights_from_host(task, control, closes=bool(flags & _CMSG_CLOEXEC))
    if len(rights) > words[5]:
        rights, returned = b"", returned | _CTRUNC
    task.space.write(words[4], rights)
    task.space.write(address + 40, len(rights).to_bytes(8, "little"))
    task.space.write(address + 48, (returned & ~_CMSG_CLOEXEC & 0xFFFF_FFFF).to_bytes(4, "little"))
    return got


def _receive(
    task: Task, fd: int, pieces: Pieces, flags: int, room: int = 0
) -> tuple[int, tuple[bytes, bytes, int]]:
    """The result, and the source, control message and flags."""
    file = _get(task, fd)
    if flags & ~_RECEIVE:
        raise OSError(errno.EINVAL, "")
    header = None

    def act() -> int:
        nonlocal header
        header = _Header(pieces(), _ADDRESS_MAX, room)
        passed = flags & (_PEEK | _TRUNC) | _DONTWAIT | _CMSG_CLOEXEC
        return host(_RECVMSG, file.fd, header.address(), passed)

    got = when_ready(task, file, select.POLLIN, act, waits=not flags & _DONTWAIT)
    assert header is not None
    words = header.header
    name = bytes(ffi.buffer(header.name, words[1] & 0xFFFF_FFFF))
    return got, (name, bytes(ffi.buffer(header.control, words[5])), words[6])


# --- descriptors in messages ---------------------------------------------------------------------


def _rights_to_host(task: Task, address: int, length: int) -> bytes:
    """SCM_RIGHTS with the descriptors of this process. Raises OSError for other messages."""
    if not length:
        return b""
    if not 16 <= length <= _CONTROL_MAX:
        raise OSError(errno.EINVAL, "")
    data = task.space.read(address, length)
    size = int.from_bytes(data[:8], "little")
    if data[8:16] != _RIGHTS or not 16 <= size <= length:
        raise OSError(errno.EINVAL, "")
    numbers = array.array("i", data[16 : 16 + (size - 16) // 4 * 4])
    fds = array.array("i", (task.files.host(number) for number in numbers))
    return data[:16] + fds.tobytes()


def _rights_from_host(task: Task, control: bytes, *, closes: bool) -> bytes:
    """Give the program descriptors of what was received; the message with their numbers."""
    if control[8:16] != _RIGHTS:
        return b""
    size = int.from_bytes(control[:8], "little")
    numbers = array.array("i")
    for fd in array.array("i", control[16 : size - (size - 16) % 4]):
        numbers.append(task.files.add(_received(fd), closes=closes))
    return control[:16] + numbers.tobytes()


def _received(fd: int) -> OpenFile:
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    mode = os.fstat(fd).st_mode
    regular = stat.S_ISREG(mode)
    waits = regular or stat.S_ISDIR(mode)
    kept = flags & (os.O_ACCMODE | os.O_APPEND)
    return OpenFile(
        fd, flags=kept, regular=regular, never_blocks=not waits and bool(flags & _NONBLOCK)
    )
