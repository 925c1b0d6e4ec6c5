"""
Descriptors that an object owns, as numbers in its attributes; -1 is none.

A number that is closed soon belongs to another file, perhaps of another thread, so that each must
be closed once. It is not known afterwards whether that has happened: Linux closes a descriptor
whatever close(2) returns, and what a signal's handler raises arrives after the call. So an object
forgets its descriptors first; what then goes wrong at worst leaves one open.
"""

from __future__ import annotations

import fcntl

from ..lean import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def close_owned(owner: object, *names: str) -> None:
    """
    Close the descriptors in these attributes, all of which become -1 before.

    A second call does nothing. Raises the first OSError, after closing all.
    """
    fds = [getattr(owner, name) for name in names]
    for name in names:
        setattr(owner, name, -1)
    close_all(fds)


def replace_owned(owner: object, name: str, fd: int) -> None:
    """Put another descriptor into an attribute, and close the one that was there."""
    last = getattr(owner, name)
    setattr(owner, name, fd)
    close_all([last])


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors that nothing refers to any more. Raises the first OSError, in the end."""
    errors = []
    for fd in fds:
        if fd >= 0:
            try:
                os.close(fd)
            except OSError as error:
                errors.append(error)
    if errors:
        raise errors[0]


def close_locked(fd: int) -> None:
    """Release the lock of an open file, and close it. Raises OSError."""
    release_lock(fd)
    os.close(fd)


def release_lock(fd: int) -> None:
    """
    Release the lock of an open file, if it has one, before it is closed. flock(2).

    Closing it is not enough: a child that was forked meanwhile has a copy, which keeps the lock.
    """
    if fd < 0:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)
    except OSError:
        pass  # it is closed next, which also unlocks it
