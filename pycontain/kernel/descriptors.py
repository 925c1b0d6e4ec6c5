"""
Descriptors that an object owns, as numbers in its attributes; -1 is none.

A number that is closed soon belongs to another file, perhaps of another thread, so that each must
be closed once. It is not known afterwards whether that has happened: Linux closes a descriptor
whatever close(2) returns, and what a signal's handler raises arrives after the call. So an object
forgets its descriptors first; what then goes wrong at worst leaves one open.

A lock belongs to the open file: flock(2). A forked child has that, too, and would keep the lock if
we were killed, even if another thread has forked it. So files that are locked are opened by
`open_lock`, and a child gives its copies up at once.
"""

from __future__ import annotations

import fcntl

from .. import _no_fork
from ..lean import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


_locks: set[int] = set()  # of this process


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


def open_lock(path: str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
    """Open a file to lock it, until `close_locked`. Raises OSError."""
    with _no_fork:
        fd = os.open(path, flags | os.O_CLOEXEC, mode, dir_fd=dir_fd)
        _locks.add(fd)
    return fd


def close_locked(fd: int) -> None:
    """Release the lock of a file that `open_lock` has opened, and close it. Raises OSError."""
    release_lock(fd)
    os.close(fd)


def release_lock(fd: int) -> None:
    """
    Release the lock of such a file, if it has one, before it is closed. flock(2).

    Closing it is not enough: a child that was forked meanwhile may still have its copy.
    """
    if fd < 0:
        return
    _locks.discard(fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)
    except OSError:
        pass  # it is closed next, which also unlocks it


def close_lock_copies() -> None:
    """
    In a child that we have cloned, and which uses none of the locks: close its copies.

    What is known of them is left unchanged, since its parent may share it (vfork).
    """
    close_all(tuple(_locks))


def _replace_lock_copies() -> None:
    """
    In a child of os.fork(): put /dev/null in the place of its copies.

    Objects of other threads own the numbers, which the child must not give to other files.
    """
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) if _locks else -1
    while _locks:
        os.dup2(null, _locks.pop(), inheritable=False)
    close_all([null])


os.register_at_fork(after_in_child=_replace_lock_copies)
