"""Calls about time. Clocks begin with the program: they do not show for how long the host runs."""

from __future__ import annotations

import _thread
import errno
import os
import time

from . import signals
from .ending import Interrupted
from .layout import signed, words
from .waiting import wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .task import Task

_TIMER_ABSTIME = 1
# Clock of the program -> clock of this host, clock_gettime(2). No other is read: a negative number
# means the processor time of any process, or the clock of a device behind one of our descriptors.
_CLOCKS = {
    0: time.CLOCK_REALTIME, 1: time.CLOCK_MONOTONIC_RAW, 2: time.CLOCK_PROCESS_CPUTIME_ID,
    3: time.CLOCK_THREAD_CPUTIME_ID, 4: time.CLOCK_MONOTONIC_RAW, 5: time.CLOCK_REALTIME,
    6: time.CLOCK_MONOTONIC_RAW, 7: time.CLOCK_MONOTONIC_RAW,
}  # fmt: skip
_UPTIMES = (time.CLOCK_MONOTONIC_RAW,)  # as KVM's, which vdso.S reads
_SLEEP_CLOCKS = {0, 1, 7}  # CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME
_TICKS = 100  # a second, for times(2)
_SIGEV_SIGNAL, _SIGEV_NONE = 0, 1
_ITIMER_REAL = -1  # its number among the timers, which timer_create(2) counts from 0


class Clocks:
    """
    The clocks of a program.

    All but the time of day start with the program: they would show for how long the host has run.
    The processor times start when first read.
    """

    def __init__(self) -> None:
        self._zero = {clock: time.clock_gettime_ns(clock) for clock in _UPTIMES}
        self._zero[time.CLOCK_REALTIME] = 0
        self.zero = self._zero.get(time.CLOCK_MONOTONIC_RAW, 0)

    def now(self, clock: int) -> int:
        """Nanoseconds on a clock of the program. Raises OSError with EINVAL if there is none."""
        host = _CLOCKS.get(clock & 0xFFFF_FFFF)
        if host is None:
            raise OSError(errno.EINVAL, "")
        now = time.clock_gettime_ns(host)
        key = host
        if host == time.CLOCK_THREAD_CPUTIME_ID:
            key = -_thread.get_native_id()
        return now - self._zero.setdefault(key, now)

    def forked(self) -> None:
        """Processor times of a new process start again."""
        for key in list(self._zero):
            if key < 0 or key == time.CLOCK_PROCESS_CPUTIME_ID:
                del self._zero[key]


def gettimeofday(task: Task, address: int, zone: int) -> int:
    seconds, part = divmod(time.time_ns() // 1000, 1_000_000)
    if address:
        task.space.write(address, words(seconds, part))
    if zone:
        task.space.write(zone, bytes(8))
    return 0


def time_(task: Task, address: int) -> int:
    now = int(time.time())
    if address:
        task.space.write(address, words(now))
    return now


def clock_gettime(task: Task, clock: int, address: int) -> int:
    task.space.write(address, words(*divmod(task.process.clocks.now(clock), 10**9)))
    return 0


def clock_getres(task: Task, clock: int, address: int) -> int:
    task.process.clocks.now(clock)
    if address:
        task.space.write(address, words(0, 1))
    return 0


def times(task: Task, address: int) -> int:
    clocks = task.process.clocks
    used = clocks.now(2) * _TICKS // 10**9
    if address:
        task.space.write(address, words(used, 0, 0, 0))
    return clocks.now(1) * _TICKS // 10**9


def getrusage(task: Task, who: int, address: int) -> int:
    if signed(who, 32) not in (0, -1, 1):
        raise OSError(errno.EINVAL, "")
    used = 0 if signed(who, 32) == -1 else task.process.clocks.now(2)
    seconds, part = divmod(used // 1000, 1_000_000)
    task.space.write(address, words(seconds, part) + bytes(128))
    return 0


def nanosleep(task: Task, address: int, left: int) -> int:
    return _sleep(task, duration(task, address), left)


def clock_nanosleep(task: Task, clock: int, flags: int, address: int, left: int) -> int:
    if clock & 0xFFFF_FFFF not in _SLEEP_CLOCKS:
        raise OSError(errno.EINVAL, "")
    until = duration(task, address)
    if not flags & _TIMER_ABSTIME:
        return _sleep(task, until, left)
    return _sleep(task, max(0, until - task.process.clocks.now(clock)), 0)


def duration(task: Task, address: int) -> int:
    """A struct timespec in nanoseconds. Raises OSError with EINVAL."""
    data = task.space.read(address, 16)
    seconds = int.from_bytes(data[:8], "little", signed=True)
    part = int.from_bytes(data[8:], "little", signed=True)
    if seconds < 0 or not 0 <= part < 10**9:
        raise OSError(errno.EINVAL, "not a time")
    return seconds * 10**9 + part


def _sleep(task: Task, nanoseconds: int, left: int) -> int:
    end = time.monotonic_ns() + nanoseconds
    try:
        wait(task, (), nanoseconds / 1e9, restart=False)
    except Interrupted:
        if left:
            rest = max(0, end - time.monotonic_ns())
            task.space.write(left, words(*divmod(rest, 10**9)))
        raise
    return 0


# --- timers --------------------------------------------------------------------------------------


def alarm(task: Task, seconds: int) -> int:
    before = task.process.timers.left_of(_ITIMER_REAL)[0]
    task.process.timers.set(_ITIMER_REAL, seconds & 0xFFFF_FFFF, 0, signals.SIGALRM)
    return -int(-before // 1)


def getitimer(task: Task, which: int, address: int) -> int:
    if which > 2:
        raise OSError(errno.EINVAL, "")
    left, interval = task.process.timers.left_of(_ITIMER_REAL) if which == 0 else (0.0, 0.0)
    task.space.write(address, _timeval(interval) + _timeval(left))
    return 0


def setitimer(task: Task, which: int, new: int, old: int) -> int:
    if which > 2:
        raise OSError(errno.EINVAL, "")
    if which:
        return -errno.ENOSYS  # of processor time
    parts = [0.0, 0.0]
    if new:
        data = task.space.read(new, 32)
        numbers = [
            int.from_bytes(data[at : at + 8], "little", signed=True) for at in (0, 8, 16, 24)
        ]
        if min(numbers) < 0 or max(numbers[1], numbers[3]) >= 10**6:
            raise OSError(errno.EINVAL, "")
        parts = [numbers[0] + numbers[1] / 1e6, numbers[2] + numbers[3] / 1e6]
    if old:
        getitimer(task, which, old)
    task.process.timers.set(_ITIMER_REAL, parts[1], parts[0], signals.SIGALRM)
    return 0


def _timeval(seconds: float) -> bytes:
    return words(*divmod(int(seconds * 1e6), 1_000_000))


def timer_create(task: Task, clock: int, event: int, address: int) -> int:
    task.process.clocks.now(clock)
    signal, kind = signals.SIGALRM, _SIGEV_SIGNAL
    if event:
        data = task.space.read(event, 64)
        signal, kind = (int.from_bytes(data[at : at + 4], "little") for at in (8, 12))
    if kind not in (_SIGEV_SIGNAL, _SIGEV_NONE) or not 0 < signal <= 64:
        raise OSError(errno.EINVAL, "")
    numbers = task.process.timer_signals
    number = next(number for number in range(len(numbers) + 1) if number not in numbers)
    if number >= 64:
        raise OSError(errno.EAGAIN, "")
    task.space.write(address, number.to_bytes(4, "little"))
    numbers[number] = signal if kind == _SIGEV_SIGNAL else 0
    return 0


def timer_settime(task: Task, timer: int, flags: int, new: int, old: int) -> int:
    signal = _timer(task, timer)
    interval = duration(task, new) / 1e9
    first = duration(task, new + 16) / 1e9
    if old:
        timer_gettime(task, timer, old)
    if flags & _TIMER_ABSTIME and first:
        first = max(1e-6, first - task.process.clocks.now(1) / 1e9)
    task.process.timers.set(timer, first, interval, signal)
    return 0


def timer_gettime(task: Task, timer: int, address: int) -> int:
    _timer(task, timer)
    left, interval = task.process.timers.left_of(timer)
    parts = (*divmod(int(interval * 1e9), 10**9), *divmod(int(left * 1e9), 10**9))
    task.space.write(address, words(*parts))
    return 0


def timer_getoverrun(task: Task, timer: int) -> int:
    _timer(task, timer)
    return 0


def timer_delete(task: Task, timer: int) -> int:
    _timer(task, timer)
    task.process.timers.set(timer, 0, 0, 0)
    del task.process.timer_signals[timer]
    return 0


def _timer(task: Task, timer: int) -> int:
    """The signal of a timer. Raises OSError with EINVAL."""
    if timer not in task.process.timer_signals:
        raise OSError(errno.EINVAL, "")
    return task.process.timer_signals[timer]


def sched_yield(task: Task) -> int:
    task.process.lock.release()
    try:
        os.sched_yield()
    finally:
        task.process.lock.acquire()
    return 0
