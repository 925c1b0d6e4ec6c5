"""The standard streams of a program: its caller's, or pipes."""

from __future__ import annotations

import fcntl
import os
import select
import sys
import termios

from ..errors import Timeout
from . import forks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from ..kernel.wait import Until
    from .pool import Process

_PIECE = 1 << 16  # bytes


class Pipes:
    """The standard streams of a program: the caller's, or pipes whose other ends are served."""

    def __init__(self, stdin: bytes, capture: bool) -> None:
        self.pieces: dict[int, list[bytes]] = {1: [], 2: []}
        self.stdin = stdin
        self.theirs, self.ours = [0, 1, 2], [-1, -1, -1]
        if capture:
            with forks.making:
                ends = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
                self.theirs = [ends[0][0], ends[1][1], ends[2][1]]
                self.ours = [ends[0][1], ends[1][0], ends[2][0]]
                forks.share(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        forks.unshare(self)
        self.close_copy()

    def close_copy(self) -> None:
        """Close what is open; a copy in a forked child would keep the program waiting for input."""
        for fd in (*self.theirs, *self.ours):
            if fd > 2:
                os.close(fd)

    def serve(self, process: Process, until: Until) -> None:
        """Write and read until the process has ended. Raises Timeout after killing it."""
        for stream, fd in enumerate(self.theirs):
            if fd > 2:
                self.theirs[stream] = -1
                os.close(fd)
        watch = select.poll()
        watch.register(process.pidfd, select.POLLIN)
        self._register(watch)
        ended = False
        while not ended:
            left = until.left
            ready = dict(watch.poll(None if left is None else left * 1000))
            ended = process.pidfd in ready
            if not ended and (not ready or left == 0):
                process.kill()
                raise Timeout("has run out", at="the time that was given")
            self._move(ready, watch)
        self._drain()

    def _register(self, watch: select.poll) -> None:
        for stream, fd in enumerate(self.ours):
            if fd >= 0:
                os.set_blocking(fd, False)
                watch.register(fd, select.POLLIN if stream else select.POLLOUT)

    def _move(self, ready: dict[int, int], watch: select.poll) -> None:
        for stream, fd in enumerate(self.ours):
            if fd not in ready or fd < 0:
                continue
            done = self._read(stream) if stream else self._write()
            if done:
                watch.unregister(fd)
                self.ours[stream] = -1
                os.close(fd)

    def _write(self) -> bool:
        """Write as much as fits now; returns whether that was all."""
        try:
            self.stdin = self.stdin[os.write(self.ours[0], self.stdin[:_PIECE]) :]
        except BrokenPipeError:
            return True
        return not self.stdin

    def _read(self, stream: int, limit: int = _PIECE) -> bool:
        """Read what is available, up to limit bytes; returns whether the stream has ended."""
        try:
            piece = os.read(self.ours[stream], limit)
        except BlockingIOError:
            return False
        self.pieces[stream].append(piece)
        return not piece

    def _drain(self) -> None:
        """Read what is available. Not until the end: other processes may keep the pipe open."""
        for stream in (1, 2):
            if self.ours[stream] >= 0 and (held := self._held(stream)):
                self._read(stream, held)  # one read returns all of it

    def _held(self, stream: int) -> int:
        """How many bytes can be read. ioctl_tty(2), FIONREAD; pipe(7)."""
        size = fcntl.ioctl(self.ours[stream], termios.FIONREAD, bytes(4))
        return int.from_bytes(size, sys.byteorder)
