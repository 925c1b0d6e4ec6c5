"""
How a running vCPU is stopped: a signal that its thread blocks and KVM_RUN does not.

The thread blocks STOP; KVM_SET_SIGNAL_MASK unblocks it while the guest runs. So the signal ends
KVM_RUN with EINTR whether it comes before or after the entry, no handler is ever called, and any
thread of a Python program can run a guest. A kernel timer sends it to this thread at the
deadline (timer_create(2), SIGEV_THREAD_ID); kick() sends it to another thread.
"""

from __future__ import annotations

import _signal  # `signal` without its enums, which cost 3 ms
import _thread
import os
import time

from ..errors import KernelError, Timeout, UsageError
from ..kernel.descriptors import close_owned
from ._ffi import ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

STOP = _signal.SIGRTMIN + 5  # the first ones are reserved by thread libraries

_LONGEST = 2_000_000  # seconds: poll(2) counts milliseconds in an int
_CLOCK_MONOTONIC = 1
_SIGEV_SIGNAL, _SIGEV_THREAD_ID = 0, 4
_lib = ffi.dlopen(None)


class Deadline:
    """
    Blocks STOP in this thread and, if seconds are given, has it sent when they have passed;
    subject names what did not end in the error message; signals are others that end KVM_RUN, too.

    mask     the signals to be blocked while the guest runs, for Vcpu.set_signal_mask()
    signals  those that this thread blocks, and that KVM_RUN ends with

    A context manager: leaving it deletes the timer and restores the thread's signal mask.
    Raises UsageError for more seconds than poll(2) can wait, and for none or less.
    """

    def __init__(
        self, seconds: float | None = None, subject: str = "the guest", signals: Iterable[int] = ()
    ) -> None:
        if seconds is not None and not 0 < seconds <= _LONGEST:
            why = f"is not between 0 and {_LONGEST} s"
            raise UsageError(why, at="timeout", value=f"{seconds}")
        self._seconds = seconds
        self._subject = subject
        self._end = time.monotonic() + seconds if seconds else None
        self._alarm = Alarm()
        self._before: set[int] = set()
        self.signals = frozenset((STOP, *signals))
        self.mask = bytes(8)

    def __enter__(self) -> Self:
        self._before = set(_signal.pthread_sigmask(_signal.SIG_BLOCK, self.signals))
        bits = sum(1 << number - 1 for number in self._before - self.signals)
        self.mask = bits.to_bytes(8, "little")
        if self._seconds:
            try:
                self._alarm.set(self._seconds)
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._alarm.close()
        drain()
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, self.signals - self._before)

    def forked(self) -> None:
        """In a forked process, where the same deadline holds; timers are not inherited."""
        self._alarm = Alarm()
        left = self.left()
        if left is not None:
            self._alarm.set(max(left, 1e-3))

    def left(self) -> float | None:
        """Seconds until the deadline, at least 0; None without one."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def check(self) -> None:
        """Raises Timeout once the deadline has passed."""
        if self._end is not None and time.monotonic() >= self._end:
            raise Timeout(
                f"{self._subject} did not end within {self._seconds:g} s", remedy="raise --timeout",
            )  # fmt: skip

    def received(self) -> list[_signal.struct_siginfo]:
        """Consume every STOP; returns the other signals that have come since the last call."""
        found = []
        while (info := _signal.sigtimedwait(self.signals, 0)) is not None:
            if info.si_signo != STOP:
                found.append(info)
        return found

    def wait(self, fd: int, event: int) -> bool:
        """
        Wait until a descriptor is ready, so that no pipe or terminal blocks past the deadline.

        Returns False, without waiting, when there is no deadline. Raises Timeout.
        """
        left = self.left()
        if left is None:
            return False
        import select

        poll = select.poll()
        poll.register(fd, event)
        poll.poll(left * 1000)
        self.check()
        return True


def drain() -> None:
    """Consume every STOP that is pending for this thread."""
    while _signal.sigtimedwait([STOP], 0):
        pass


def kick(thread: int) -> None:
    """End the KVM_RUN of another thread, by its native id; no error if it has exited."""
    _lib.tgkill(os.getpid(), thread, STOP)  # pthread_kill(3) is undefined for a thread that ended


class Bell:
    """A descriptor that is readable while one of these signals is pending for who polls it."""

    def __init__(self, signals: Iterable[int]) -> None:
        self._signals = signals
        self.fd = -1

    def open(self) -> int:
        """The descriptor, made when a program waits for the first time."""
        if self.fd < 0:
            mask = ffi.new("uint64_t *", sum(1 << number - 1 for number in self._signals))
            self.fd = _lib.signalfd(-1, mask, os.O_CLOEXEC | os.O_NONBLOCK)
            if self.fd < 0:
                raise KernelError.of("signalfd", ffi.errno)
        return self.fd

    def close(self) -> None:
        """Release the descriptor."""
        close_owned(self, "fd")


class Alarm:
    """
    A kernel timer that sends STOP to the thread that sets it, or to whichever thread of this
    process does not block it; it is not inherited by fork.
    """

    def __init__(self, *, anyone: bool = False) -> None:
        self._timer: object = None  # not NULL: the first timer of a process is number 0
        self._owner = -1
        self._anyone = anyone

    def set(self, seconds: float) -> None:
        """Send STOP after so many seconds, and not at the time set before; 0 for never."""
        owner = 0 if self._anyone else _thread.get_native_id()
        if self._owner != owner:
            self._timer, self._owner = _create_timer(owner), owner
        whole, part = divmod(int(seconds * 1e9) or int(seconds > 0), 10**9)
        when = ffi.new("struct itimerspec *", (0, 0, whole, part))
        if _lib.timer_settime(self._timer, 0, when, ffi.NULL) != 0:
            raise KernelError.of("timer_settime", ffi.errno)

    def close(self) -> None:
        """Delete the timer."""
        if self._owner in (0, _thread.get_native_id()):
            _lib.timer_delete(self._timer)
            self._owner = -1


def _create_timer(thread: int) -> object:
    event = ffi.new("struct sigevent *")
    event.sigev_signo, event.thread_id = STOP, thread
    event.sigev_notify = _SIGEV_THREAD_ID if thread else _SIGEV_SIGNAL
    holder = ffi.new("void **")
    if _lib.timer_create(_CLOCK_MONOTONIC, event, holder) != 0:
        raise KernelError.of("timer_create", ffi.errno)
    return holder[0]
