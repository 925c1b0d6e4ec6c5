"""The output of a program, to iterate over as it comes."""

from __future__ import annotations

import sys

from .lines import LineIterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..result import Result
    from .call import Call
    from .cancel import Cancel


class Stream(LineIterator):
    """
    The lines (bytes) of a program's standard output, as they come.

    An iterator, for `for` and for `async for`. The program starts when the first line is requested,
    and ends at once when the block of `with` or `async with` is left, when an asyncio task that
    waits for a line is cancelled, and when the object is freed. It is blocked while no line is
    requested and the pipe is full; a time limit ends it when the next line is requested. A line
    longer than 1 MiB is returned in parts. Raises what `run` raises.

    result  how the program ended; None until the last line was returned
    """

    def __init__(
        self,
        call: Callable[[Callable[[bytes], None], Cancel | None], Call],
        begin: Callable[[Call], object],
        result: Callable[[Call], Result],
        end: Callable[[Call], None],
    ) -> None:
        super().__init__()
        self.result: Result | None = None
        self._make, self._begin, self._result_of, self._end = call, begin, result, end
        self._call: Call | None = None

    def __del__(self) -> None:
        if not sys.is_finalizing():  # at exit, the worker deletes the container
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
