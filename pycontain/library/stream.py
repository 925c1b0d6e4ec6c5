"""The output of a program, to iterate over as it comes."""

from __future__ import annotations

import sys
from collections import deque

from .cancel import Cancel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from ..result import Result
    from .call import Call

_LONGEST = 1 << 20  # bytes of a line


class Stream:
    """
    The lines (bytes) of a program's standard output, as they come.

    An iterator, for `for` and for `async for`. The program starts when the first line is requested,
    and ends at once when the block of `with` or `async with` is left, when an asyncio task that
    waits for a line is cancelled, and when the object is freed. It waits while nobody asks for more
    and the pipe is full; a time limit ends it when the next line is requested. A line longer than 1
    MiB comes in parts. Raises what `run` raises.

    result  how the program ended; None until the last line was returned
    """

    def __init__(
        self,
        call: Callable[[Callable[[bytes], None], Cancel | None], Call],
        begin: Callable[[Call], object],
        result: Callable[[Call], Result],
        end: Callable[[Call], None],
    ) -> None:
        self.result: Result | None = None
        self._make, self._begin, self._result_of, self._end = call, begin, result, end
        self._call: Call | None = None
        self._cancel: Cancel | None = None
        self._output = _Lines()  # of its own, so that no cycle keeps this object
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        line = self._next()
        if line is None:
            raise StopIteration
        return line

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        from .aio import to_end

        await to_end(self.close, kind)

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

    def __del__(self) -> None:
        if not sys.is_finalizing():  # then the worker deletes the container
            self.close()

    def close(self) -> None:
        """End the program, if it runs; there are no more lines."""
        if self._closed:
            return
        self._closed = True
        self._output.lines.clear()
        try:
            if self._call is not None:
                self._call.close()
                self._end(self._call)
        finally:
            if self._cancel is not None:
                self._cancel.close()

    def _next(self) -> bytes | None:
        """The next line, None after the last one."""
        try:
            while not self._output.lines and not self._closed:
                self._advance()
        except BaseException:
            self.close()
            raise
        return self._output.lines.popleft() if self._output.lines else None

    def _advance(self) -> None:
        """Begin, or wait for more, or finish."""
        if self._call is None:
            self._call = self._make(self._output, self._cancel)
            with self._call.timed():
                self._begin(self._call)
        elif not self._call.ended:
            self._call.turn()
        elif not self._output.flush():
            self.result = self._result_of(self._call)
            self.close()


class _Lines:
    """Divides output into lines."""

    def __init__(self) -> None:
        self.lines: deque[bytes] = deque()
        self.rest = b""

    def __call__(self, piece: bytes) -> None:
        *lines, self.rest = (self.rest + piece).split(b"\n")
        self.lines += [line + b"\n" for line in lines]
        if len(self.rest) > _LONGEST:
            self.flush()

    def flush(self) -> bool:
        """Make a line of what has no end yet; returns whether there was any."""
        rest, self.rest = self.rest, b""
        if rest:
            self.lines.append(rest)
        return bool(rest)
