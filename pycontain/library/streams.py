"""A program's standard streams: its caller's, files, or pipes that this process serves."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import select
import sys
import termios

from ..errors import KernelError, UsageError
from ..lean.record import Record
from . import forks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal, Protocol, Self, TypedDict

    class HasDescriptor(Protocol):
        """An open file."""

        def fileno(self) -> int:
            """Its descriptor."""

    Input = bytes | bytearray | memoryview | str | int | HasDescriptor | None
    Output = int | HasDescriptor | Callable[[bytes], object] | None
    Overflow = Literal["kill", "cut"]

    class StreamArguments(TypedDict, total=False):
        """What calls take; `pycontain.run` says what each means."""

        stdin: Input
        stdout: Output
        stderr: Output
        capture: bool
        max_output: int | None
        overflow: Overflow


_PIECE = 1 << 16  # bytes
_MOST_HELD = 1 << 18  # bytes that a terminal can buffer; the actual number is unknown
_END_OF_INPUT = b"\4"  # VEOF, as a terminal begins: termios(3)
_NAMES = ("stdin", "stdout", "stderr")
_STDOUT, _DEVNULL = -2, -3  # as in subprocess, whose PIPE, -1, is the default here


class Wanted(Record):
    """The standard streams that a caller wants for a program: see `pycontain.run`."""

    stdin: Input = None
    stdout: Output = None
    stderr: Output = None
    capture: bool = True
    max_output: int | None = 16 << 20
    overflow: Overflow = "kill"


class Captured:
    """Output that is kept, up to a limit."""

    def __init__(self, limit: int | None) -> None:
        self.data = bytearray()
        self.limit = limit
        self.truncated = False

    def __call__(self, piece: bytes) -> None:
        room = len(piece) if self.limit is None else self.limit - len(self.data)
        self.truncated |= len(piece) > room
        self.data += piece[:room]


class Streams:
    """
    A program's standard streams.

    theirs    the descriptors for the program, until `given`
    ours      the other ends of pipes, or the master of a terminal; -1 for none
    captured  stream -> the output that is kept
    """

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = _checked(wanted)
        self.input = memoryview(b"")
        self.theirs, self.ours = [-1, -1, -1], [-1, -1, -1]
        self.captured = {stream: Captured(wanted.max_output) for stream in (1, 2)}
        self.sinks: dict[int, Callable[[bytes], object]] = dict(self.captured)
        self._watch: select.poll | None = None
        try:
            with forks.making:
                forks.share(self)
                self._open_input()
                for stream in (1, 2):
                    self._open_output(stream)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise KernelError.of("open", error.errno or 0, at="standard streams") from None
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open."""
        forks.unshare(self)
        self.close_copy()

    def close_copy(self) -> None:
        """Close what is open; a copy in a forked child would keep the program waiting for input."""
        self.given()
        for stream in range(3):
            self._close(stream)

    # --- opening -------------------------------------------------------------------------------

    def _open_input(self) -> None:
        data = self.wanted.stdin
        if isinstance(data, str):
            data = data.encode()
        if isinstance(data, (bytes, bytearray, memoryview)):
            self.input = memoryview(data).cast("B")
        elif data is not None or not self.wanted.capture:
            self.theirs[0] = _opened(0, data)
            return
        self.theirs[0], self.ours[0] = os.pipe2(os.O_CLOEXEC)

    def _open_output(self, stream: int) -> None:
        target = self.wanted.stderr if stream == 2 else self.wanted.stdout
        if stream == 2 and target == _STDOUT:
            self.theirs[2] = os.dup(self.theirs[1])
            return
        if callable(target) and not hasattr(target, "fileno"):
            self.sinks[stream] = target
        elif target is not None or not self.wanted.capture:
            self.theirs[stream] = _opened(stream, target)
            return
        self.ours[stream], self.theirs[stream] = os.pipe2(os.O_CLOEXEC)

    def given(self) -> None:
        """Close our copies of the program's ends, which it has by now."""
        for stream, fd in enumerate(self.theirs):
            if fd >= 0:
                self.theirs[stream] = -1
                os.close(fd)

    def use_terminal(self, master: int) -> None:
        """Serve a terminal, which the program has instead of streams."""
        for stream in range(3):
            self._close(stream)
        self.ours[1] = master
        self.ours[0] = fcntl.fcntl(master, fcntl.F_DUPFD_CLOEXEC, 0)
        typed = bytes(self.input)
        whole = typed[-1:] in (b"", b"\n")  # within a line, the first VEOF only sends the line
        self.input = memoryview(typed + _END_OF_INPUT * (1 if whole else 2))

    # --- serving -------------------------------------------------------------------------------

    def register(self, watch: select.poll) -> None:
        """Watch our ends."""
        self._watch = watch
        for stream, fd in enumerate(self.ours):
            if fd >= 0:
                os.set_blocking(fd, False)
                watch.register(fd, select.POLLIN if stream else select.POLLOUT)

    def move(self, ready: dict[int, int]) -> None:
        """Write to and read from the streams that are ready."""
        for stream, fd in enumerate(self.ours):
            if fd in ready and (self._read(stream) if stream else self._write()):
                self._close(stream)

    @property
    def overflowed(self) -> bool:
        """Whether the program must be killed because of too much output."""
        return self.wanted.overflow == "kill" and self.truncated

    @property
    def truncated(self) -> bool:
        """Whether there was more output than is kept."""
        return any(kept.truncated for kept in self.captured.values())

    def drain(self) -> None:
        """Read what is available, not until the end: other processes may keep the pipe open."""
        for stream in (1, 2):
            held = self._held(stream) if self.ours[stream] >= 0 else 0
            while held > 0 and not self._read(stream):
                held -= _PIECE

    def _held(self, stream: int) -> int:
        """The number of bytes that can be read, at most. ioctl_tty(2), FIONREAD; pipe(7)."""
        if os.isatty(self.ours[stream]):
            return _MOST_HELD
        size = fcntl.ioctl(self.ours[stream], termios.FIONREAD, bytes(4))
        return int.from_bytes(size, sys.byteorder)

    def _write(self) -> bool:
        """Write as much as fits now; returns whether that was all."""
        try:
            self.input = self.input[os.write(self.ours[0], self.input[:_PIECE]) :]
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            return True
        return not self.input

    def _read(self, stream: int) -> bool:
        """Read a piece of what is available; returns whether the stream has ended."""
        try:
            piece = os.read(self.ours[stream], _PIECE)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal that nobody has open
                raise
            return True
        if piece:
            self.sinks[stream](piece)
        return not piece

    def _close(self, stream: int) -> None:
        fd, self.ours[stream] = self.ours[stream], -1
        if fd >= 0:
            if self._watch is not None:
                self._watch.unregister(fd)
            os.close(fd)


def _checked(wanted: Wanted) -> Wanted:
    limit = wanted.max_output
    if limit is not None and (type(limit) is not int or limit < 0):
        raise UsageError(
            "is not a number of bytes", at="max_output", value=repr(limit),
            remedy="give one, or None for no limit",
        )  # fmt: skip
    if wanted.overflow not in ("kill", "cut"):
        raise UsageError('is not "kill" or "cut"', at="overflow", value=repr(wanted.overflow))
    return wanted


def _opened(stream: int, target: object) -> int:
    """A new descriptor for a caller's argument; None means the caller's own stream."""
    if target == _DEVNULL and type(target) is int:
        return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        return fcntl.fcntl(_descriptor(stream, target), fcntl.F_DUPFD_CLOEXEC, 0)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        if target is None:  # the caller, perhaps a daemon, has closed it
            return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        raise UsageError(
            "is not an open descriptor", at=_NAMES[stream], value=repr(target)
        ) from None


def _descriptor(stream: int, target: object) -> int:
    if target is None:
        return stream
    if type(target) is int and target >= 0:
        return target
    try:
        return int(target.fileno())  # type: ignore[attr-defined]
    except (AttributeError, io.UnsupportedOperation):
        kinds = "bytes, an open file or a descriptor" if not stream else (
            "an open file, a descriptor or a function"
        )  # fmt: skip
        raise UsageError(
            "cannot be used here", at=_NAMES[stream], value=repr(target), remedy=f"give {kinds}"
        ) from None
