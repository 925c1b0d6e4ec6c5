"""
Fill a new tmpfs with what it covers (the mount option tmpcopyup), using only descriptors.

An image can nest directories deeper than the limits of descriptors, of recursion and of PATH_MAX,
and another container that shares them can move them meanwhile. So only one directory is open at a
time, and the way back up is "..", which must be the directory that the way down led through.
"""

from __future__ import annotations

import _stat as stat
import errno

from ..errors import KernelError, StepError
from ..kernel.descriptors import close_owned, replace_owned
from ..lean import os

_PIECE = 1 << 20
_SHOWN = 200  # characters of a path in an error
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# The errors for a file of the source that was removed or replaced after it was listed.
_CHANGED = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EINVAL)


def copy_tree(source: int, target: int) -> None:
    """
    Copy a directory's content into another, with owners, modes and times of files.

    Copies regular files, directories, symlinks, device files and FIFOs. Sockets are left out, since
    they are useless without their server, and so are files that disappear or are replaced while
    they are copied. Mode and owner of the top directory are left to the caller. The target must
    be on a file system that nobody else can reach yet.

    Raises KernelError, and StepError if a directory is moved while its content is copied; both name
    the file by its path below the source.
    """
    way = _Way(os.open(".", _DIRECTORY, dir_fd=source), os.open(".", _DIRECTORY, dir_fd=target))
    old = os.umask(0)
    try:
        way.copy_files()
        while way.pending:
            if way.pending[-1]:
                way.enter(way.pending[-1].pop())
            else:
                way.leave()
    except OSError as error:
        raise KernelError.of("copy", error.errno or 0, way.path) from None
    finally:
        os.umask(old)
        way.close()


class _Way:
    """
    Where the copy is: a directory of the source, and the one of the target that it becomes.

    names    the directories that lead from the top to here
    above    in the source, the parent of each of them: (device, inode)
    pending  the names of the directories still to be copied: in the top, and in each of them
    current  the name of the file that is being copied
    """

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self.target = target
        self.names: list[str] = []
        self.above: list[tuple[int, int]] = []
        self.pending: list[list[str]] = []
        self.current = ""

    @property
    def path(self) -> str:
        """The path of the current file below the top; only its end if it is very long."""
        path = "/".join((*self.names, self.current)) if self.current else "/".join(self.names)
        return path if len(path) <= _SHOWN else f"...{path[-_SHOWN:]}"

    def copy_files(self) -> None:
        """Copy everything here but the directories, which are then pending."""
        directories = []
        for name in _listed(self.source):
            self.current = name
            status = _status(name, self.source)
            if status is None:
                continue
            if stat.S_ISDIR(status.st_mode):
                directories.append(name)
            else:
                _copy_one(name, status, self.source, self.target)
        self.current = ""
        self.pending.append(directories)

    def enter(self, name: str) -> None:
        """Go down into a directory, and copy its files."""
        self.current = name
        inner = _try_open(name, _DIRECTORY, self.source)
        if inner is None:
            return
        self.above.append(_identity(self.source))
        self.names.append(name)
        self.current = ""
        replace_owned(self, "source", inner)
        os.mkdir(name, 0o700, dir_fd=self.target)
        self._step_target(name)
        self.copy_files()

    def leave(self) -> None:
        """Go back up from a directory whose content is complete."""
        self.pending.pop()
        if not self.names:
            return
        _copy_owner(os.fstat(self.source), self.target)
        outer = _try_open("..", _DIRECTORY, self.source)
        if outer is None or _identity(outer) != self.above.pop():
            raise StepError(
                "was moved while it was copied", at=self.path, remedy="stop what changes the rootfs"
            )
        replace_owned(self, "source", outer)
        self._step_target("..")
        self.names.pop()

    def _step_target(self, name: str) -> None:
        replace_owned(self, "target", os.open(name, _DIRECTORY, dir_fd=self.target))

    def close(self) -> None:
        """Close both directories."""
        close_owned(self, "source", "target")


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


# --- the source, which others may change ---------------------------------------------------------


def _listed(source: int) -> list[str]:
    """The names in a directory, each once: one that is renamed meanwhile can be listed twice."""
    try:
        return list(dict.fromkeys(os.listdir(source)))
    except FileNotFoundError:  # it was removed
        return []


def _status(name: str, source: int) -> os.stat_result | None:
    try:
        return os.lstat(name, dir_fd=source)
    except FileNotFoundError:
        return None


def _try_open(name: str, flags: int, source: int) -> int | None:
    """Open a file of the source; None if it was removed or replaced meanwhile."""
    try:
        return os.open(name, flags, dir_fd=source)
    except OSError as error:
        if error.errno not in _CHANGED:
            raise
        return None


def _read_link(name: str, source: int) -> str | None:
    try:
        return os.readlink(name, dir_fd=source)
    except OSError as error:
        if error.errno not in _CHANGED:
            raise
        return None


# --- one file ------------------------------------------------------------------------------------


def _copy_one(name: str, status: os.stat_result, source: int, target: int) -> None:
    mode = status.st_mode
    if stat.S_ISREG(mode):
        _copy_file(name, source, target)
    elif stat.S_ISLNK(mode):
        link_target = _read_link(name, source)
        if link_target is not None:
            os.symlink(link_target, name, dir_fd=target)
            _give(name, status, target)
    elif not stat.S_ISSOCK(mode):
        os.mknod(name, mode, status.st_rdev, dir_fd=target)
        _give(name, status, target)


def _give(name: str, status: os.stat_result, target: int) -> None:
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)


def _copy_file(name: str, source: int, target: int) -> None:
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    # opening a FIFO that has replaced it meanwhile would wait for a writer
    reader = _try_open(name, os.O_RDONLY | os.O_NONBLOCK | flags, source)
    if reader is None:
        return
    status = os.fstat(reader)
    if stat.S_ISREG(status.st_mode):
        writer = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600, dir_fd=target)
        while os.sendfile(writer, reader, None, _PIECE):
            pass
        _copy_owner(status, writer)
        os.utime(writer, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.close(writer)
    os.close(reader)


def _copy_owner(status: os.stat_result, target: int) -> None:
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))  # after the owner: chown clears setuid bits
