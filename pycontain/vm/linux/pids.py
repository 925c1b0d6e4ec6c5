"""
The processes of a program in the VM, in memory that all their monitors share.

Each process of the program has a monitor, a process of this host. What they must know of each other
is in a table: who is whose parent, which signals are pending, how one ended. Fields are changed by
single stores; what takes more than one happens under a lock, which the kernel releases when its
owner dies.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os

from ...kernel.descriptors import close_owned
from ..deadline import STOP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 256  # processes and further threads at once
_SLOT = 1024  # bytes of each
_PENDING, _SENDERS = 64, 256  # offsets in it: a byte for each signal; an si_code and a sender
SIGNALS = 64
FREE, LIVE, STOPPED, ENDED, TASK = range(5)
# fields of a process, 32 bits each; of a further thread, the state and as the parent its process
(STATE, HOST, PARENT, GROUP, SESSION, STATUS, REAPS, CHANGED, EXECUTED) = range(9)


class Pids:
    """The table; the first process has number 1."""

    def __init__(self) -> None:
        self._file = os.memfd_create("processes", os.MFD_CLOEXEC)
        os.ftruncate(self._file, SIZE * _SLOT)
        self._map = mmap.mmap(self._file, SIZE * _SLOT)
        self._words = memoryview(self._map).cast("I")
        self._next = 1
        self.own = 1
        for field, value in ((HOST, os.getpid()), (GROUP, 1), (SESSION, 1), (STATE, LIVE)):
            self.set(1, field, value)

    def close(self) -> None:
        """Release the table."""
        self._words.release()
        self._map.close()
        close_owned(self, "_file")

    def get(self, pid: int, field: int) -> int:
        """A field of a process."""
        return self._words[pid * _SLOT // 4 + field]

    def set(self, pid: int, field: int, value: int) -> None:
        """Set a field of a process."""
        self._words[pid * _SLOT // 4 + field] = value

    def add(self, *, thread: bool = False) -> int:
        """
        A number for a child or a thread of this process.

        Raises OSError with EAGAIN when all are taken.
        """
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            for offset in range(SIZE):
                pid = 1 + (self._next + offset - 1) % (SIZE - 1)
                if self.get(pid, STATE) == FREE:
                    break
            else:
                raise OSError(errno.EAGAIN, "")
            self._map[pid * _SLOT : (pid + 1) * _SLOT] = bytes(_SLOT)
            for field in (GROUP, SESSION):
                self.set(pid, field, self.get(self.own, field))
            self.set(pid, PARENT, self.own)
            self.set(pid, STATE, TASK if thread else LIVE)
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
        self._next = pid + 1
        return pid

    def remove(self, pid: int) -> None:
        """A thread has ended, or the parent of a process knows that it has."""
        if self.get(pid, STATE) != TASK:
            for tid in range(1, SIZE):  # a monitor that was killed has left its threads
                if self.get(tid, STATE) == TASK and self.get(tid, PARENT) == pid:
                    self.set(tid, STATE, FREE)
        self.set(pid, STATE, FREE)

    def all(self) -> Iterator[int]:
        """Every process that has a number."""
        return (pid for pid in range(1, SIZE) if self.get(pid, STATE) not in (FREE, TASK))

    def alive(self, pid: int) -> bool:
        """Whether there is such a process, ended or not."""
        return 0 < pid < SIZE and self.get(pid, STATE) not in (FREE, TASK)

    def process_of(self, number: int) -> int:
        """The process that has this number, or a thread with it; 0 if there is none."""
        if not 0 < number < SIZE or self.get(number, STATE) == FREE:
            return 0
        return self.get(number, PARENT) if self.get(number, STATE) == TASK else number

    def children(self, parent: int) -> list[int]:
        """The children of a process."""
        return [pid for pid in self.all() if pid != 1 and self.get(pid, PARENT) == parent]

    # --- signals -------------------------------------------------------------------------------

    def post(self, pid: int, signal: int, code: int = 0, sender: int | None = None) -> None:
        """Make a signal pending for a process, and tell its monitor."""
        at = pid * _SLOT + _SENDERS + 8 * signal
        value = (code & 0xFFFF_FFFF) | (self.own if sender is None else sender) << 32
        self._map[at : at + 8] = value.to_bytes(8, "little")
        self._map[pid * _SLOT + _PENDING + signal] = 1
        if pid != self.own:
            self.kick(pid)

    def kick(self, pid: int) -> None:
        """Stop the monitor of a process, so that it looks at what is pending."""
        monitor = self.get(pid, HOST)
        if monitor and self.get(pid, STATE) in (LIVE, STOPPED):
            try:
                os.kill(monitor, STOP)  # any thread that does not block it ends its KVM_RUN
            except ProcessLookupError:
                pass

    def pending(self) -> bytes:
        """A byte for each signal that is pending for this process."""
        start = self.own * _SLOT + _PENDING
        return self._map[start : start + SIGNALS + 1]

    def take(self, signal: int) -> tuple[int, int]:
        """A pending signal is being delivered; its si_code and sender."""
        self._map[self.own * _SLOT + _PENDING + signal] = 0
        at = self.own * _SLOT + _SENDERS + 8 * signal
        code, sender = self._map[at : at + 4], self._map[at + 4 : at + 8]
        return int.from_bytes(code, "little", signed=True), int.from_bytes(sender, "little")
