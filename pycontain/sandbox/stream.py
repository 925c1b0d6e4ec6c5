"""The lines of a program's output, while it runs."""

from __future__ import annotations

import threading
from collections import deque

from ..library.aio import to_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from .container import Contained
    from .result import SandboxResult


class Stream:
    """
    An iterator over the lines (bytes) of standard output, for `for` and for `async for`.

    The program is watched by a thread of its own, so that its limits hold whether or not anyone
    iterates. It ends when the block of `with` or `async with` is left, or `close` is called.

    result  how it ended; None until the last line was returned
    """

    def __init__(self, contained: Contained, to_end: Callable[[], SandboxResult]) -> None:
        self.result: SandboxResult | None = None
        self._contained = contained
        self._to_end = to_end
        self._lines: deque[bytes] = deque()
        self._rest = b""
        self._changed = threading.Condition()
        self._wake: Callable[[], object] | None = None
        self._ended: SandboxResult | BaseException | None = None
        contained.watch.on_output = self._take
        self._thread = threading.Thread(target=self._serve, name="pycontain")
        self._thread.start()

    def _serve(self) -> None:
        try:
            ended: SandboxResult | BaseException = self._to_end()
        except BaseException as error:
            ended = error
        with self._changed:
            if self._rest:
                self._lines.append(self._rest)
            self._ended = ended
            self._tell()

    def _take(self, stream: int, piece: bytes) -> bool:
        """Divide output into lines; standard error is kept for the result."""
        if stream:
            return False
        with self._changed:
            *lines, self._rest = (self._rest + piece).split(b"\n")
            self._lines += [line + b"\n" for line in lines]
            self._tell()
        return True

    def _tell(self) -> None:
        self._changed.notify_all()
        if self._wake is not None:
            self._wake()

    def close(self) -> None:
        """End the program, if it runs; there are no more lines."""
        if self._ended is None:
            self._contained.stop()
        self._thread.join()
        self._lines.clear()

    def _next(self) -> bytes | None:
        """A line, None at the end. Raises what ended it, unless that is a result."""
        if self._lines:
            return self._lines.popleft()
        if isinstance(self._ended, BaseException):
            raise self._ended
        self.result = self._ended
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        with self._changed:
            while not self._lines and self._ended is None:
                self._changed.wait()
            line = self._next()
        if line is None:
            raise StopIteration
        return line

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        await to_end(self.close, kind)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        import asyncio

        loop, event = asyncio.get_running_loop(), asyncio.Event()
        try:
            while True:
                with self._changed:
                    self._wake = lambda: loop.call_soon_threadsafe(event.set)
                    if self._lines or self._ended is not None:
                        line = self._next()
                        break
                await event.wait()
                event.clear()
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._wake = None
        if line is None:
            raise StopAsyncIteration
        return line
