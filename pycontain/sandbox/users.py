"""
The users that sandboxes run as: each has one that nothing else on the host has.

RLIMIT_NPROC counts processes by user, and what one user has started it can signal and trace.
"""

from __future__ import annotations

import os
import threading

from ..errors import UsageError

_FIRST = 0x7000_0000  # above what distributions and container engines give out
_EACH = 256  # of a program, whose pid is below 2^22

_lock = threading.Lock()
_taken: set[int] = set()


def take() -> int:
    """
    A user id that is free; the lowest one, so that configurations recur.

    Raises UsageError for too many at once.
    """
    first = _FIRST + os.getpid() * _EACH
    with _lock:
        for uid in range(first, first + _EACH):
            if uid not in _taken:
                _taken.add(uid)
                return uid
    raise UsageError("are too many sandboxes at once", value=str(_EACH + 1))


def give(uid: int) -> None:
    """Its processes have ended."""
    with _lock:
        _taken.discard(uid)
