"""
Finding a first process whose pid is not recorded yet, where there is no cgroup to find it by.

Every launch without a cgroup goes through such a moment. If the command is killed then, and the
child is stopped or has not begun, the child remains. Two things identify it: like its parent it has
the container's state directory open, and it has not called execve(2) since it was forked.
"""

from __future__ import annotations

import _signal

from ..errors import KernelError
from ..kernel.files import is_forked, read_text
from ..lean import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..state.directory import StateDir


def pidfds(directory: StateDir) -> Iterator[int]:
    """A pidfd of each such process of a container, which the caller closes."""
    identity = directory.identity
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        try:
            pidfd = os.pidfd_open(int(name))
        except (OSError, ValueError):  # it has ended, or is a thread
            continue
        if is_forked(int(name)) and _waits_in(name, identity):
            yield pidfd
        else:
            os.close(pidfd)


def kill(directory: StateDir) -> None:
    """Kill them."""
    for pidfd in pidfds(directory):
        try:
            _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has just ended
        finally:
            os.close(pidfd)


def _waits_in(pid: str, directory: tuple[int, int]) -> bool:
    """Whether a process has a directory open, and has not locked it itself."""
    has_it_open = False
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            status = os.stat(f"/proc/{pid}/fd/{fd}")
            if (status.st_dev, status.st_ino) == directory:
                if f" {pid} " in _locks(pid, fd):
                    return False  # a command, in a program that was forked
                has_it_open = True
    except (OSError, KernelError):  # it has ended, or is another user's
        pass
    return has_it_open


def _locks(pid: str, fd: str) -> str:
    """The locks of an open file, with the pid of who holds each. proc_pid_fdinfo(5)."""
    lines = read_text(f"/proc/{pid}/fdinfo/{fd}").splitlines()
    return "\n".join(line for line in lines if line.startswith("lock:"))
