"""
What only few containers have, and is removed with their state directory, even after a create that
was killed half-way: groups outside of cgroup2, such as Intel RDT's, which are listed there before
they are created, and the directory of the notification socket.
"""

from __future__ import annotations

import errno

from ..errors import KernelError
from ..lean import os
from .directory import GROUPS, NOTIFY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .directory import StateDir


def write_groups(directory: StateDir, paths: list[str]) -> None:
    """List these directories, outermost first."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(directory.file(GROUPS), flags, 0o600)
    try:
        os.write(fd, "\n".join(paths).encode())
    finally:
        os.close(fd)


def remove(folder: int, names: list[str]) -> list[str]:
    """Remove these things from a state directory, by its descriptor; returns the other names."""
    if GROUPS in names:
        _remove_groups(folder)
    if NOTIFY in names:
        inner = os.open(NOTIFY, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
        for name in os.listdir(inner):
            os.unlink(name, dir_fd=inner)
        os.close(inner)
        os.rmdir(NOTIFY, dir_fd=folder)
    return [name for name in names if name != NOTIFY]


def _remove_groups(folder: int) -> None:
    """Remove the groups that are listed."""
    fd = os.open(GROUPS, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        paths = os.read(fd, 1 << 16).decode().split("\n")
    finally:
        os.close(fd)
    for path in filter(None, reversed(paths)):
        try:
            os.rmdir(path)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise KernelError.of("rmdir", error.errno or 0, path) from None
