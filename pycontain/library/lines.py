"""Iterating over the lines of a program's output, in threads and in asyncio tasks."""

from __future__ import annotations

from collections import deque

from .cancel import Cancel
from .closing import Closing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

_LONGEST = 1 << 20  # bytes of a line


class Divided:
    """Output, divided into lines; one that is longer than 1 MiB comes in parts."""

    def __init__(self) -> None:
        self.lines: deque[bytes] = deque()
        self.rest = b""

    def __call__(self, piece: bytes) -> None:
        *lines, self.rest = (self.rest + piece).split(b"\n")
        self.lines += [line + b"\n" for line in lines]
        if len(self.rest) > _LONGEST:
            self.flush()

    def flush(self) -> bool:
        """Make a line of the text that has no newline yet; returns whether there was any."""
        rest, self.rest = self.rest, b""
        if rest:
            self.lines.append(rest)
        return bool(rest)


class LineIterator(Closing):
    """An iterator over lines; `close`, or the end of a `with` block, ends the program."""

    def __init__(self) -> None:
        self._output = Divided()
        self._cancel: Cancel | None = None  # of a call that waits for a line
        self._closed = False

    def _next(self) -> bytes | None:
        """Wait for the next line; None after the last one."""
        raise NotImplementedError

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        line = self._next()
        if line is None:
            raise StopIteration
        return line

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        from .aio import in_thread

        if self._output.lines:
            return self._output.lines.popleft()
        if self._cancel is None and not self._closed:
            self._cancel = Cancel()
        line = await in_thread(lambda _: self._next(), self._cancel)
        if line is None:
            raise StopAsyncIteration
        return line
