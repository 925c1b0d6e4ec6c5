"""
Waiting that a signal or a deadline ends.

A command that sets up a container has its signals blocked: one that arrived in the middle of a step
would leave something behind. So it waits here, where nothing is half done, for what it needs and
for the signals that end it. poll(2), signalfd(2).
"""

from __future__ import annotations

import _signal
import time

from ..errors import Interrupted, Timeout
from ..lean import os
from .descriptors import close_owned

_ENDING = (_signal.SIGINT, _signal.SIGTERM)
_SIGINFO = 128  # bytes of struct signalfd_siginfo, which begins with the signal's number


class Until:
    """
    What ends a wait early.

    deadline  by time.monotonic(), None for no end
    signals   a descriptor that is readable when a signal ends the command, -1 for none
    """

    __slots__ = ("deadline", "signals")

    def __init__(self, deadline: float | None = None, signals: int = -1) -> None:
        self.deadline = deadline
        self.signals = signals

    @classmethod
    def interrupted(cls) -> Until:
        """Until SIGINT or SIGTERM, both of which must be blocked. Raises KernelError."""
        from .calls import signal_descriptor  # commands that only wait need no system calls of ours

        return cls(signals=signal_descriptor(_ENDING))

    @classmethod
    def after(cls, seconds: float | None) -> Until:
        """Until so many seconds from now."""
        return cls(None if seconds is None else time.monotonic() + seconds)

    def __enter__(self) -> Until:
        return self

    def __exit__(self, *_: object) -> None:
        close_owned(self, "signals")

    def extended(self, seconds: float) -> Until:
        """The same for cleaning up: what has a deadline gets so many seconds from now."""
        if self.deadline is None:
            return self
        return Until(time.monotonic() + seconds, self.signals)

    @property
    def left(self) -> float | None:
        """Seconds until the deadline, 0 when it has passed, None without one."""
        if self.deadline is None:
            return None
        return max(self.deadline - time.monotonic(), 0.0)

    def wait(self, fd: int, most: float | None = None) -> bool:
        """
        Wait until a descriptor is readable, or for `most` seconds; whether it is.

        Raises Timeout at the deadline, and Interrupted after a signal.
        """
        from select import POLLIN, poll

        watch = poll()
        watch.register(fd, POLLIN)
        if self.signals >= 0:
            watch.register(self.signals, POLLIN)
        left = self.left
        times = [seconds for seconds in (left, most) if seconds is not None]
        ready = {number for number, _ in watch.poll(min(times) * 1000 if times else None)}
        if fd in ready:
            return True
        if self.signals in ready:
            raise self.interruption()
        if left is not None and (most is None or left <= most):
            raise Timeout("has expired", at="the time limit")
        return False

    def interruption(self) -> Interrupted:
        """The error for the signal, which is no longer pending: a second one counts again."""
        import sys

        number = int.from_bytes(os.read(self.signals, _SIGINFO)[:4], sys.byteorder)
        return Interrupted.by(number)


FOREVER = Until()
