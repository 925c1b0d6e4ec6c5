"""Read whole small files: those of /proc, of cgroups, of a bundle, and our own."""

from __future__ import annotations

import _stat as stat
import errno

from ..errors import KernelError
from ..lean import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .wait import Until

_MOST = 16 << 20  # bytes
_PIECE = 1 << 16
# include/linux/sched.h, which is in no package of headers
_PF_EXITING, _PF_FORKNOEXEC = 0x4, 0x40


def read_text(path: str, until: Until | None = None) -> str:
    """A whole file of UTF-8 text. Raises KernelError that names it, and as `read_bytes`."""
    try:
        return read_bytes(path, until=until).decode()
    except UnicodeDecodeError:
        raise KernelError("is not UTF-8 text", at=path) from None


def read_bytes(
    path: str, directory: int | None = None, at: str = "", until: Until | None = None
) -> bytes:
    """
    A whole file, as bytes.

    directory  a descriptor of the directory that path is relative to
    at      the file's name for the error, path if empty
    until   for a file that a caller has named and that may be a FIFO, what ends the wait for
            its writer

    Raises KernelError that names the file, and what `until` raises.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | (os.O_NONBLOCK if until is not None else 0)
    try:
        fd = os.open(path, flags, dir_fd=directory)
    except OSError as error:
        raise KernelError.of("open", error.errno or 0, at or path) from None
    try:
        return _rest(fd, at or path, until)
    except OSError as error:
        raise KernelError.of("read", error.errno or 0, at or path) from None
    finally:
        os.close(fd)


def _rest(fd: int, at: str, until: Until | None) -> bytes:
    regular = until is None or stat.S_ISREG(os.fstat(fd).st_mode)
    pieces: list[bytes] = []
    size = 0
    while True:
        if not regular and until is not None:
            until.wait(fd)  # also for a FIFO that nobody has opened for writing yet
        piece = os.read(fd, _PIECE)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        size += len(piece)
        if size > _MOST:
            raise KernelError(f"is longer than {_MOST >> 20} MiB", at=at)


def start_time(pid: int) -> int:
    """A process's start time in clock ticks since boot, 0 if it is a zombie or gone. proc(5)."""
    fields = _stat(pid)
    return 0 if not fields or fields[0] in (b"Z", b"X") else int(fields[19])


def never_executed(pid: int) -> bool:
    """
    Whether a process has ended, or is ending, without having executed a program.

    False if it is gone: once its parent has reaped it, nothing tells any more. Until then, proof is
    in the kernel's flags: proc_pid_stat(5). A child of vfork(2) that still is in execve(2), where
    the kernel lets its parent continue, has PF_FORKNOEXEC, too.
    """
    flags = _PF_EXITING | _PF_FORKNOEXEC
    return _flags(pid) & flags == flags


def is_forked(pid: int) -> bool:
    """Whether a process that has not ended runs what its creator has run."""
    return _flags(pid) & (_PF_EXITING | _PF_FORKNOEXEC) == _PF_FORKNOEXEC


def _flags(pid: int) -> int:
    """The kernel's flags of a process, 0 if it is gone."""
    fields = _stat(pid)
    return int(fields[6]) if fields else 0


def _stat(pid: int) -> list[bytes]:
    """The third field and the following ones of /proc/PID/stat; none if the process is gone."""
    try:
        text = read_bytes(f"/proc/{pid}/stat")
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH):
            return []
        raise
    return text.rpartition(b")")[2].split()  # the name before it can contain anything
