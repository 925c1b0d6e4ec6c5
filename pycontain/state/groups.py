"""
Groups that were made for a container elsewhere than in cgroup2, such as Intel RDT's.

They are listed in its state directory before they exist, and are removed with it: also after a
create that was killed half-way.
"""

from __future__ import annotations

import errno

from ..errors import KernelError
from ..lean import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .directory import StateDir

NAME = "groups"


def write_groups(directory: StateDir, paths: list[str]) -> None:
    """List these directories, outermost first."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(directory.file(NAME), flags, 0o600)
    try:
        os.write(fd, "\n".join(paths).encode())
    finally:
        os.close(fd)


def remove_groups(folder: int) -> None:
    """Remove those that a state directory, by its descriptor, lists."""
    fd = os.open(NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
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
