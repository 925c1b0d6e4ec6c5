"""Ending a call from another thread."""

from __future__ import annotations

import os
import select
import threading

from ..errors import Interrupted, Timeout
from ..kernel.wait import Until


class Cancel:
    """Ends a call when another thread sets it. eventfd(2)."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()

    @property
    def is_set(self) -> bool:
        """Whether the call is to end. The descriptor stays readable."""
        watch = select.poll()
        watch.register(self.fd, select.POLLIN)
        return bool(watch.poll(0))

    def set(self) -> None:
        """End the call, if it has not ended."""
        with self._lock:
            if self.fd >= 0:
                os.eventfd_write(self.fd, 1)

    def close(self) -> None:
        """The call has ended."""
        with self._lock:
            fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class Limit(Until):
    """A call's time limit (seconds, None for none), and its cancellation."""

    __slots__ = ()

    def __init__(self, timeout: float | None, cancel: Cancel | None = None) -> None:
        super().__init__(Until.after(timeout).deadline, -1 if cancel is None else cancel.fd)

    def extended(self, seconds: float) -> Until:
        """For cleaning up, which cannot be cancelled."""
        return Until(self.deadline).extended(seconds)

    def check(self) -> None:
        """Raises Timeout if the time has run out, and Interrupted if the call was cancelled."""
        if self.left == 0:
            raise Timeout("has expired", at="the time limit")
        if self._cancelled:
            raise self.interruption()

    @property
    def _cancelled(self) -> bool:
        watch = select.poll()
        if self.signals >= 0:
            watch.register(self.signals, select.POLLIN)
        return bool(watch.poll(0))

    def interruption(self) -> Interrupted:
        """The error; the descriptor stays readable, so that every other wait ends, too."""
        return Interrupted("was cancelled", at="the call")
