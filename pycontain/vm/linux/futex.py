"""
futex(2), on the host's futex at the same bytes.

So processes that share memory meet, and a signal ends the wait soon: the monitor looks at what is
pending every few milliseconds.
"""

from __future__ import annotations

import errno
import time

from .channels import at, host
from .clock import duration
from .layout import words
from .waiting import wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .task import Task

_WAIT, _WAKE, _REQUEUE, _CMP_REQUEUE, _WAIT_BITSET, _WAKE_BITSET = 0, 1, 3, 4, 9, 10
_PRIVATE, _REALTIME = 128, 256
_ANY = 0xFFFF_FFFF
_FUTEX = 202
_SLICE = 10_000_000  # nanoseconds


def futex(
    task: Task, address: int, operation: int, value: int, timeout: int, other: int, bits: int
) -> int:
    kind = operation & ~(_PRIVATE | _REALTIME)
    if address % 4:
        raise OSError(errno.EINVAL, "")
    where = task.space.host(address, 4)
    if kind in (_WAIT, _WAIT_BITSET):
        bits = bits & _ANY if kind == _WAIT_BITSET else _ANY
        if not bits:
            raise OSError(errno.EINVAL, "")
        return _wait(task, where, value, _end(task, operation, timeout), bits)
    if kind in (_WAKE, _WAKE_BITSET):
        bits = bits & _ANY if kind == _WAKE_BITSET else _ANY
        return host(_FUTEX, where, _WAKE_BITSET, max(1, value), 0, 0, bits)
    if kind in (_REQUEUE, _CMP_REQUEUE):
        target = task.space.host(other, 4)
        return host(_FUTEX, where, kind, value, timeout & 0x7FFF_FFFF, target, bits)
    raise OSError(errno.ENOSYS, "")


def _end(task: Task, operation: int, timeout: int) -> float | None:
    """When to give up, on this host's monotonic clock."""
    if not timeout:
        return None
    seconds = duration(task, timeout) / 1e9
    if operation & ~(_PRIVATE | _REALTIME) == _WAIT_BITSET:  # a moment, not a duration
        clock = 0 if operation & _REALTIME else 1
        seconds -= task.process.clocks.now(clock) / 1e9
    return time.monotonic() + seconds


def _wait(task: Task, where: int, value: int, end: float | None, bits: int) -> int:
    while True:
        left = _SLICE if end is None else min(_SLICE, int((end - time.monotonic()) * 1e9))
        if left <= 0:
            raise OSError(errno.ETIMEDOUT, "")
        until = words(*divmod(time.monotonic_ns() + left, 10**9))
        try:
            return host(_FUTEX, where, _WAIT_BITSET, value, at(until), 0, bits)
        except OSError as error:
            if error.errno not in (errno.ETIMEDOUT, errno.EINTR):
                raise
        wait(task, (), 1e-9, restart=end is None)
