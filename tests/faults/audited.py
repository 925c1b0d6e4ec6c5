"""
A fault in ordinary Python code: SIGKILL before one of the operations that Python announces.

`binding` knows the system calls of the path that engines take. The commands for people and the
library use all of the standard library, which raises an audit event (PEP 578) before it opens,
creates, renames, removes or locks a file, and before it starts a program. Killing a process before
each of them shows each state in which it can leave files.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys

_PREFIXES = ("fcntl.flock", "open", "os.", "shutil.", "socket.", "subprocess.", "tempfile.")
_OTHER = ("os.kill", "os.listdir", "os.putenv", "os.scandir", "os.walk")  # they change nothing


class Count:
    """How many operations a process has announced, in memory that it shares with the test."""

    def __init__(self, path: str = "") -> None:
        """A path is that of a file to share with a process that is not forked from this one."""
        if not path:
            self._memory = mmap.mmap(-1, 8)
            return
        with open(path, "a+b") as file:
            file.truncate(8)
            self._memory = mmap.mmap(file.fileno(), 8)

    @property
    def value(self) -> int:
        """The number; it can be set."""
        return int.from_bytes(self._memory[:], "little")

    @value.setter
    def value(self, value: int) -> None:
        self._memory[:] = value.to_bytes(8, "little")


def install(count: Count, last: int = -1) -> None:
    """Count the operations of this process, not of its children, and die before this one."""
    count.value = 0
    own = os.getpid()

    def announced(event: str, args: tuple[object, ...]) -> None:
        if not event.startswith(_PREFIXES) or event in _OTHER or _only_reads(event, args):
            return
        if os.getpid() != own:
            return
        if count.value == last:
            os.kill(own, signal.SIGKILL)
        count.value += 1

    sys.addaudithook(announced)


def _only_reads(event: str, args: tuple[object, ...]) -> bool:
    """Whether this opens a file that exists, which is the same before and after."""
    if event != "open":
        return False
    *_, flags = args
    return isinstance(flags, int) and not flags & (os.O_CREAT | os.O_TRUNC)


if __name__ == "__main__":
    path, last, code = sys.argv[1:]
    install(Count(path), int(last))
    exec(code, {"__name__": "__main__"})
