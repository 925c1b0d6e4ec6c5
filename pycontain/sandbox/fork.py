"""A copy of a pool's interpreter: one run, from outside."""

from __future__ import annotations

import os
import select
import socket

from ..errors import KernelError, PycontainError, StateError
from ..library import forks
from . import configure
from .files import Files
from .supervise import Watch, request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .limits import Limits
    from .result import SandboxResult
    from .server import Server


class Copy:
    """
    A copy, which waits for its code: its files, cgroup, descriptors and user.

    slot  which of the pool's users it has
    """

    def __init__(self, server: Server, limits: Limits, slot: int) -> None:
        """Have it made; nothing is waited for. Raises StateError, KernelError."""
        self.slot = slot
        uid = configure.user(slot)
        self.files = Files(limits.disk, uid)
        self.cgroup = server.cgroup_for_run(limits)
        self.watch = Watch(limits, server.held, self.files, self.cgroup)
        self.watch.overhead = 1  # the first process
        self._reported = False
        with forks.making:
            theirs = self._channels()
            forks.share(self)
            try:
                server.begin(limits, uid, "once", [*theirs, self.cgroup.fd, self.files.fd])
            except BaseException:
                self.close()
                raise
            finally:
                for fd in theirs:
                    os.close(fd)

    def _channels(self) -> list[int]:
        """Set our ends: control, output, errors, report; returns theirs."""
        left, right = socket.socketpair()
        ours, theirs = [left.detach()], [right.detach()]
        for _ in range(3):
            reading, writing = os.pipe2(os.O_CLOEXEC)
            ours.append(reading)
            theirs.append(writing)
        self._fds = ours
        watch = self.watch
        watch.control, output, errors, watch.ended = ours
        watch.outputs = [(output, bytearray()), (errors, bytearray())]
        return theirs

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, with its server or because it could not start."""
        poll = select.poll()
        poll.register(self.watch.ended, select.POLLIN)
        return bool(poll.poll(0))

    def start(self, code: bytes, stdin: bytes) -> None:
        """Send the code."""
        self.watch.begin(request(code, stdin))

    def to_end(self, collect: Sequence[str]) -> SandboxResult:
        """Watch it until it has ended. Raises PycontainError if it could not start."""
        self.watch.serve()
        result = self.watch.result(*self._report(self.watch.ended))
        found = {}
        for path in collect:
            try:
                found[path] = self.files.read(path)
            except (KernelError, StateError):
                continue  # it has not written such a file
        return result.replace(files=found) if found else result

    def _report(self, fd: int) -> tuple[int, int, int]:
        """(exit status, signal, peak of memory in bytes). Raises PycontainError."""
        text = os.read(fd, 4096).decode(errors="replace").partition("\n")[0]
        if not text:  # killed before it could report
            return 137, 9, 0
        words = text.split(" ")
        if len(words) != 2 or not all(word.isdecimal() for word in words):
            raise PycontainError(f"could not start: {text}", at="a run in the pool")
        self._reported = True
        status, peak = map(int, words)
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        return 128 + number if number else os.WEXITSTATUS(status), number, peak

    def close_copy(self) -> None:
        """In a forked child: close what belongs to the program."""
        forks.unshare(self)
        for fd in self._fds:
            os.close(fd)
        self._fds = []
        self.files.close()

    def close(self) -> None:
        """End it, if it has not: once its first process has ended, the kernel kills the rest."""
        self.close_copy()
        if not self._reported:
            self.cgroup.kill()
        self.cgroup.close()
