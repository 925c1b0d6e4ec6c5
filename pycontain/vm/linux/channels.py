"""Pipes, and descriptors that signal events; waiting for several descriptors."""

from __future__ import annotations

import errno
import os
import select

from .._ffi import ffi
from ..open_file import OpenFile
from ..space import BadAddress
from .clock import duration
from .layout import signed, words
from .signals import UNBLOCKABLE
from .waiting import wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .task import Task

_lib = ffi.dlopen(None)
_EFD, _EFD_SEMAPHORE = os.O_CLOEXEC | os.O_NONBLOCK, 1
_NVAL, _ALWAYS = 0x20, select.POLLIN | select.POLLOUT | 0x40 | 0x100  # POLLRDNORM, POLLWRNORM
_POLL_MAX, _FD_SETSIZE, _EVENTS_MAX = 1024, 1024, 1 << 12
_ADD, _DELETE, _MODIFY = 1, 2, 3
# the host's, on x86-64 and elsewhere: only those that Python lacks
_TIMERFD_CREATE, _TIMERFD_SETTIME, _TIMERFD_GETTIME = 283, 286, 287
_EPOLL_CREATE1, _EPOLL_CTL, _EPOLL_WAIT = 291, 233, 232


def host(number: int, *arguments: int) -> int:
    """One system call of this host, with addresses in this process. Raises OSError."""
    result = _lib.syscall(number, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    if result < 0:
        raise OSError(ffi.errno, "")
    return int(result)


def pipe(task: Task, address: int) -> int:
    return pipe2(task, address, 0)


def pipe2(task: Task, address: int, flags: int) -> int:
    if flags & ~(os.O_CLOEXEC | os.O_NONBLOCK):
        raise OSError(errno.EINVAL, "")
    task.space.host(address, 1)
    ends = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    kept, closes = flags & os.O_NONBLOCK, bool(flags & os.O_CLOEXEC)
    reader = task.files.add(OpenFile(ends[0], flags=kept, never_blocks=True), closes=closes)
    try:
        writer = task.files.add(
            OpenFile(ends[1], flags=kept | os.O_WRONLY, never_blocks=True), closes=closes
        )
    except OSError:
        task.files.close(reader)
        raise
    try:
        task.space.write(address, reader.to_bytes(4, "little") + writer.to_bytes(4, "little"))
    except BadAddress:
        task.files.close(reader)
        task.files.close(writer)
        raise
    return 0


def _add(task: Task, fd: int, flags: int) -> int:
    """A descriptor that does not block on the host."""
    file = OpenFile(fd, flags=os.O_RDWR | flags & os.O_NONBLOCK, never_blocks=True)
    return task.files.add(file, closes=bool(flags & os.O_CLOEXEC))


def eventfd2(task: Task, count: int, flags: int) -> int:
    if flags & ~(_EFD | _EFD_SEMAPHORE):
        raise OSError(errno.EINVAL, "")
    return _add(task, os.eventfd(count & 0xFFFF_FFFF, flags & _EFD_SEMAPHORE | _EFD), flags)


def eventfd(task: Task, count: int) -> int:
    return eventfd2(task, count, 0)


def timerfd_create(task: Task, clock: int, flags: int) -> int:
    if clock not in (0, 1, 7) or flags & ~_EFD:
        raise OSError(errno.EINVAL, "")
    made = host(_TIMERFD_CREATE, clock, _EFD)
    number = _add(task, made, flags)
    task.files.get(number).clock = clock
    return number


def timerfd_settime(task: Task, fd: int, flags: int, new: int, old: int) -> int:
    file = task.files.get(fd)
    if file.clock is None or flags & ~3:
        raise OSError(errno.EINVAL, "")
    interval, first = duration(task, new), duration(task, new + 16)
    if flags & 1 and file.clock:  # absolute, on a clock that began with the program
        first = max(1, first - task.process.clocks.now(file.clock)) if first else 0
        flags &= ~1
    given = words(*divmod(interval, 10**9), *divmod(first, 10**9))
    was = ffi.new("char[32]")
    host(_TIMERFD_SETTIME, file.fd, flags, at(given), at(was))
    if old:
        task.space.write(old, bytes(ffi.buffer(was)))
    return 0


def timerfd_gettime(task: Task, fd: int, address: int) -> int:
    file = task.files.get(fd)
    if file.clock is None:
        raise OSError(errno.EINVAL, "")
    data = ffi.new("char[32]")
    host(_TIMERFD_GETTIME, file.fd, at(data))
    task.space.write(address, bytes(ffi.buffer(data)))
    return 0


def at(data: object) -> int:
    """The address of bytes that the caller keeps."""
    if isinstance(data, bytes):
        data = ffi.from_buffer(data)
    return int(ffi.cast("uintptr_t", data))


# --- waiting for several ------------------------------------------------------------------------


def poll(task: Task, address: int, count: int, milliseconds: int) -> int:
    limit = signed(milliseconds, 32)
    return _poll(task, address, count, None if limit < 0 else limit / 1000)


def ppoll(task: Task, address: int, count: int, timeout: int, mask: int, size: int) -> int:
    seconds = duration(task, timeout) / 1e9 if timeout else None
    return _masked(task, mask, size, lambda: _poll(task, address, count, seconds))


def _masked(task: Task, mask: int, size: int, act: Callable[[], int]) -> int:
    """Do something with another signal mask, which holds until a handler runs."""
    if not mask:
        return act()
    if size != 8:
        raise OSError(errno.EINVAL, "")
    wanted = int.from_bytes(task.space.read(mask, 8), "little") & ~UNBLOCKABLE
    before, task.mask = task.mask, wanted
    try:
        result = act()
    except BaseException:
        task.restored_mask = before
        raise
    task.mask = before
    return result


def _poll(task: Task, address: int, count: int, seconds: float | None) -> int:
    if count > _POLL_MAX:
        raise OSError(errno.EINVAL, "")
    rows = [
        (int.from_bytes(row[:4], "little", signed=True), int.from_bytes(row[4:6], "little"))
        for row in _rows(task.space.read(address, 8 * count), 8)
    ]
    found = _ready(task, rows, seconds)
    task.space.write(
        address,
        b"".join(
            (fd & 0xFFFF_FFFF).to_bytes(4, "little") + events.to_bytes(2, "little")
            + got.to_bytes(2, "little")
            for (fd, events), got in zip(rows, found, strict=True)
        ),
    )  # fmt: skip
    return sum(1 for got in found if got)


def _rows(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def _ready(
    task: Task, rows: list[tuple[int, int]], seconds: float | None
) -> list[int]:  # fmt: skip
    """What poll(2) shows for each descriptor of the program; those made here are always ready."""
    wanted: dict[int, int] = {}
    answers: list[int | None] = []
    hosts: list[int] = []
    for fd, events in rows:
        host_fd, answer = -1, None
        if fd < 0:
            answer = 0
        elif not task.files.has(fd):
            answer = _NVAL
        else:
            file = task.files.get(fd)
            host_fd = file.fd
            if file.fd < 0 or file.regular:
                answer = events & _ALWAYS
            else:
                wanted[file.fd] = wanted.get(file.fd, 0) | events
        answers.append(answer)
        hosts.append(host_fd)
    now = any(answers)
    found = dict(wait(task, list(wanted.items()), 0 if now else seconds, restart=False))
    return [
        found.get(host_fd, 0) & (events | 0x18) if answer is None else answer
        for (_, events), answer, host_fd in zip(rows, answers, hosts, strict=True)
    ]


def select_(task: Task, count: int, read: int, write: int, other: int, timeout: int) -> int:
    seconds = None
    if timeout:
        data = task.space.read(timeout, 16)
        parts = [int.from_bytes(data[at : at + 8], "little", signed=True) for at in (0, 8)]
        if min(parts) < 0:
            raise OSError(errno.EINVAL, "")
        seconds = parts[0] + parts[1] / 1e6
    return _select(task, count, (read, write, other), seconds)


def pselect6(
    task: Task, count: int, read: int, write: int, other: int, timeout: int, pair: int
) -> int:
    seconds = duration(task, timeout) / 1e9 if timeout else None
    mask = size = 0
    if pair:
        data = task.space.read(pair, 16)
        mask, size = (int.from_bytes(data[at : at + 8], "little") for at in (0, 8))
    return _masked(task, mask, size, lambda: _select(task, count, (read, write, other), seconds))


_SETS = (select.POLLIN, select.POLLOUT, select.POLLPRI)
_READY = (select.POLLIN | select.POLLHUP | select.POLLERR, select.POLLOUT | select.POLLERR,
          select.POLLPRI)  # fmt: skip


def _select(task: Task, count: int, sets: tuple[int, ...], seconds: float | None) -> int:
    if signed(count, 32) < 0:
        raise OSError(errno.EINVAL, "")
    count = min(count, _FD_SETSIZE)
    size = -(-count // 64) * 8
    given = [int.from_bytes(task.space.read(at, size), "little") if at else 0 for at in sets]
    rows = []
    for fd in range(count):
        events = sum(bit for bits, bit in zip(given, _SETS, strict=True) if bits >> fd & 1)
        if events:
            task.files.get(fd)
            rows.append((fd, events))
    found = _ready(task, rows, seconds)
    total = 0
    for at, bits, ready in zip(sets, given, _READY, strict=True):
        result = 0
        for (fd, _), got in zip(rows, found, strict=True):
            if got & ready and bits >> fd & 1:
                result |= 1 << fd
        total += result.bit_count()
        if at:
            task.space.write(at, result.to_bytes(size, "little"))
    return total


# --- epoll: the host's, which knows the host's descriptors --------------------------------------


def epoll_create1(task: Task, flags: int) -> int:
    if flags & ~os.O_CLOEXEC:
        raise OSError(errno.EINVAL, "")
    return _add(task, host(_EPOLL_CREATE1, os.O_CLOEXEC), flags)


def epoll_create(task: Task, size: int) -> int:
    if signed(size, 32) <= 0:
        raise OSError(errno.EINVAL, "")
    return epoll_create1(task, 0)


def epoll_ctl(task: Task, epoll: int, operation: int, fd: int, event: int) -> int:
    target, group = task.files.get(fd), task.files.get(epoll)
    if target.fd < 0 or target.regular:
        raise OSError(errno.EPERM, "")
    if group.fd < 0 or group is target:
        raise OSError(errno.EINVAL, "")
    data = task.space.read(event, 12) if operation != _DELETE else bytes(12)
    host(_EPOLL_CTL, group.fd, signed(operation, 32), target.fd, at(data))
    return 0


def epoll_wait(task: Task, epoll: int, events: int, most: int, milliseconds: int) -> int:
    return epoll_pwait(task, epoll, events, most, milliseconds, 0, 8)


def epoll_pwait(
    task: Task, epoll: int, events: int, most: int, milliseconds: int, mask: int, size: int = 8
) -> int:
    limit = signed(milliseconds, 32)
    seconds = None if limit < 0 else limit / 1000
    return _masked(task, mask, size, lambda: _epoll(task, epoll, events, most, seconds))


def epoll_pwait2(task: Task, epoll: int, events: int, most: int, timeout: int, mask: int) -> int:
    seconds = duration(task, timeout) / 1e9 if timeout else None
    return _masked(task, mask, 8, lambda: _epoll(task, epoll, events, most, seconds))


def _epoll(task: Task, epoll: int, events: int, most: int, seconds: float | None) -> int:
    group = task.files.get(epoll)
    if not signed(most, 32) > 0 or group.fd < 0:
        raise OSError(errno.EINVAL, "")
    most = min(most, _EVENTS_MAX)
    found = ffi.new(f"char[{12 * most}]")
    while True:
        got = host(_EPOLL_WAIT, group.fd, at(found), most, 0)
        if got:
            task.space.write(events, bytes(ffi.buffer(found, 12 * got)))
            return got
        if not wait(task, [(group.fd, select.POLLIN)], seconds, restart=False):
            return 0
