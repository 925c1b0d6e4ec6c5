"""
futex(2).

Threads of one process wait here, where a signal reaches them: whoever wakes one, stops it as a
signal would. Processes that share memory meet at the host's futex on the same bytes; who waits
there looks at what is pending every few milliseconds.
"""

from __future__ import annotations

import errno
import time

from .channels import at, host
from .clock import duration
from .ending import Interrupted
from .layout import words
from .waiting import wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .task import Task

_WAIT, _WAKE, _REQUEUE, _CMP_REQUEUE, _WAIT_BITSET, _WAKE_BITSET = 0, 1, 3, 4, 9, 10
_OTHERS = {
    2: "FUTEX_FD", 5: "FUTEX_WAKE_OP", 6: "FUTEX_LOCK_PI", 7: "FUTEX_UNLOCK_PI",
    8: "FUTEX_TRYLOCK_PI", 11: "FUTEX_WAIT_REQUEUE_PI", 12: "FUTEX_CMP_REQUEUE_PI",
    13: "FUTEX_LOCK_PI2",
}  # fmt: skip
_PRIVATE, _REALTIME = 128, 256
_ANY = 0xFFFF_FFFF
_FUTEX = 202
_SLICE = 10_000_000  # nanoseconds


class Waiter:
    """A thread that waits at a futex."""

    __slots__ = ("bits", "task", "where", "woken")

    def __init__(self, task: Task, where: int, bits: int) -> None:
        self.task = task
        self.where = where
        self.bits = bits
        self.woken = False


def futex(
    task: Task, address: int, operation: int, value: int, timeout: int, other: int, bits: int
) -> int:
    kind = operation & ~(_PRIVATE | _REALTIME)
    if address % 4:
        raise OSError(errno.EINVAL, "")
    if kind in (_WAIT, _WAKE):
        bits = _ANY
    bits &= _ANY
    if kind in (_WAIT, _WAIT_BITSET, _WAKE, _WAKE_BITSET) and not bits:
        raise OSError(errno.EINVAL, "")
    if kind in (_WAIT, _WAIT_BITSET):
        return _wait(task, address, operation, value, _end(task, operation, timeout), bits)
    if kind in (_WAKE, _WAKE_BITSET):
        return wake(task, address, max(1, value), bits, private=bool(operation & _PRIVATE))
    if kind in (_REQUEUE, _CMP_REQUEUE):
        expected = bits if kind == _CMP_REQUEUE else None
        return _requeue(task, address, operation, value, timeout & 0x7FFF_FFFF, other, expected)
    name = f"futex {_OTHERS.get(kind, kind)}"
    if kind in _OTHERS:
        task.process.unserved[name] = task.process.unserved.get(name, 0) + 1
    raise OSError(errno.ENOSYS, "")


def _is_shared(task: Task, address: int, operation: int) -> bool:
    """Whether tasks of other processes may meet there."""
    area = task.space.area_at(address)
    return bool(not operation & _PRIVATE and area and area.shared)


def _end(task: Task, operation: int, timeout: int) -> float | None:
    """When to give up, on this host's monotonic clock."""
    if not timeout:
        return None
    seconds = duration(task, timeout) / 1e9
    if operation & ~(_PRIVATE | _REALTIME) == _WAIT_BITSET:  # a moment, not a duration
        clock = 0 if operation & _REALTIME else 1
        seconds -= task.process.clocks.now(clock) / 1e9
    return time.monotonic() + seconds


def _wait(
    task: Task, address: int, operation: int, value: int, end: float | None, bits: int
) -> int:
    where = task.space.host(address, 4)
    if _is_shared(task, address, operation):
        return _wait_at_host(task, where, value, end, bits)
    if int.from_bytes(task.space.read(address, 4), "little") != value & _ANY:
        raise OSError(errno.EAGAIN, "")
    seconds = None if end is None else end - time.monotonic()
    if seconds is not None and seconds <= 0:
        raise OSError(errno.ETIMEDOUT, "")
    waiter = Waiter(task, where, bits)
    task.process.waiters.setdefault(where, []).append(waiter)
    try:
        wait(task, (), seconds, restart=end is None, until=lambda: waiter.woken)
    except Interrupted:
        if not waiter.woken:
            raise
    finally:
        if not waiter.woken:
            _take(task, waiter)
    if not waiter.woken:
        raise OSError(errno.ETIMEDOUT, "")
    return 0


def _take(task: Task, waiter: Waiter) -> None:
    waiters = task.process.waiters
    waiters[waiter.where].remove(waiter)
    if not waiters[waiter.where]:
        del waiters[waiter.where]


def wake(task: Task, address: int, count: int, bits: int = _ANY, *, private: bool = False) -> int:
    """Wake so many threads that wait there; returns how many it were. Raises BadAddress."""
    where = task.space.host(address, 4)
    if _is_shared(task, address, private * _PRIVATE):
        return host(_FUTEX, where, _WAKE_BITSET, count, 0, 0, bits)
    woken = 0
    for waiter in list(task.process.waiters.get(where, ())):
        if woken < count and waiter.bits & bits:
            _take(task, waiter)
            waiter.woken = True
            waiter.task.kick()
            woken += 1
    return woken


def _requeue(
    task: Task, address: int, operation: int, count: int, most: int, other: int,
    expected: int | None,
) -> int:  # fmt: skip
    where, target = task.space.host(address, 4), task.space.host(other, 4)
    if _is_shared(task, address, operation):
        kind = operation & ~(_PRIVATE | _REALTIME)
        return host(_FUTEX, where, kind, count, most, target, expected or 0)
    word = int.from_bytes(task.space.read(address, 4), "little")
    if expected is not None and word != expected:
        raise OSError(errno.EAGAIN, "")
    woken = wake(task, address, count, private=True) if count else 0
    moved = list(task.process.waiters.get(where, ()))[:most]
    for waiter in moved:
        _take(task, waiter)
        waiter.where = target
        task.process.waiters.setdefault(target, []).append(waiter)
    return woken + (len(moved) if expected is not None else 0)


def _wait_at_host(task: Task, where: int, value: int, end: float | None, bits: int) -> int:
    lock = task.process.lock
    while True:
        left = _SLICE if end is None else min(_SLICE, int((end - time.monotonic()) * 1e9))
        if left <= 0:
            raise OSError(errno.ETIMEDOUT, "")
        until = words(*divmod(time.monotonic_ns() + left, 10**9))
        lock.release()
        try:
            return host(_FUTEX, where, _WAIT_BITSET, value, at(until), 0, bits)
        except OSError as error:
            if error.errno not in (errno.ETIMEDOUT, errno.EINTR):
                raise
        finally:
            lock.acquire()
        wait(task, (), 1e-9, restart=end is None)
