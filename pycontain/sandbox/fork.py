"""A copy of a pool's interpreter: one run, from outside."""

from __future__ import annotations

import os
import select
import socket

from ..errors import PycontainError
from ..library import forks
from . import users
from .files import Files
from .supervise import Watch, request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .result import SandboxResult
    from .server import Server
    from .setup import Setup


class Copy:
    """
    A copy, which waits for its code: its files, cgroup, descriptors and user.

    uid  its user
    """

    def __init__(self, server: Server, setup: Setup) -> None:
        """Have it made; nothing is waited for. Raises StateError, KernelError."""
        self._server = server
        self.uid = users.take()
        self.files = Files(setup.limits.disk, self.uid)
        self._network = setup.network()
        self.cgroup = server.cgroup_for_run(setup.limits)
        self.watch = Watch(setup.limits, setup.held, self.files, self.cgroup)
        self.watch.overhead = 1  # the first process
        self._reported = False
        with forks.making:
            theirs = self._channels()
            forks.share(self)
            joined = setup.joined(self._network)
            try:
                given = [*theirs, self.cgroup.fd, self.files.fd, *joined]
                server.begin(setup.limits, self.uid, "once", given)
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

    def await_ready(self) -> None:
        """Its server has started, and nothing else takes time."""

    def start(self, code: bytes, stdin: bytes) -> None:
        """Send the code."""
        self.watch.begin(request(code, stdin))

    def to_end(self, collect: Sequence[str]) -> SandboxResult:
        """Watch it until it has ended. Raises PycontainError if it could not start."""
        self.watch.serve()
        result = self.watch.result(*self._report(self.watch.ended))
        found = self.files.collected(collect)
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
        if self._network is not None:
            self._network.close()
        users.give(self.uid)
        self._server.has_ended(self.cgroup)
