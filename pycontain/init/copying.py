"""Fill a new tmpfs with what it covers (the mount option tmpcopyup), using only descriptors."""

from __future__ import annotations

import _stat as stat

from ..lean import os

_PIECE = 1 << 20


def copy_tree(source: int, target: int) -> None:
    """
    Copy a directory's content into another, with owners, modes and times of files.

    Regular files, directories, symlinks, device files and FIFOs; sockets are left out, since they
    are useless without their server, and so is a file that turns into something else while it is
    copied. Mode and owner of the top directory are copied, too.
    """
    _copy_directory(source, os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=target))


def _copy_directory(source: int, target: int) -> None:
    for name in os.listdir(source):
        found = os.lstat(name, dir_fd=source)
        _copy_one(name, found, source, target)
    _copy_owner(os.fstat(source), target)
    os.close(source)
    os.close(target)


def _copy_one(name: str, found: os.stat_result, source: int, target: int) -> None:
    mode = found.st_mode
    if stat.S_ISDIR(mode):
        os.mkdir(name, 0o700, dir_fd=target)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        inner = os.open(name, flags, dir_fd=source)
        _copy_directory(inner, os.open(name, flags, dir_fd=target))
    elif stat.S_ISREG(mode):
        _copy_file(name, source, target)
    elif stat.S_ISLNK(mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
    elif not stat.S_ISSOCK(mode):
        os.mknod(name, mode, found.st_rdev, dir_fd=target)
        os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)


def _copy_file(name: str, source: int, target: int) -> None:
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    # opening a FIFO that has replaced it meanwhile would wait for a writer
    reader = os.open(name, os.O_RDONLY | os.O_NONBLOCK | flags, dir_fd=source)
    found = os.fstat(reader)
    if stat.S_ISREG(found.st_mode):
        writer = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600, dir_fd=target)
        while os.sendfile(writer, reader, None, _PIECE):
            pass
        _copy_owner(found, writer)
        os.utime(writer, ns=(found.st_atime_ns, found.st_mtime_ns))
        os.close(writer)
    os.close(reader)


def _copy_owner(found: os.stat_result, target: int) -> None:
    os.fchown(target, found.st_uid, found.st_gid)
    os.fchmod(target, stat.S_IMODE(found.st_mode))  # after the owner: chown clears setuid bits
