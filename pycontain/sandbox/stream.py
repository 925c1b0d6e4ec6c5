"""The lines of a program's output, while it runs."""

from __future__ import annotations

import threading

from ..library.cancel import Cancel
from ..library.lines import LineIterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .container import Contained
    from .result import SandboxResult


class Stream(LineIterator):
    """
    An iterator over the lines (bytes) of standard output, for `for` and for `async for`.

    The program is watched by a thread of its own, so that its limits hold whether or not anyone
    iterates. It ends when the block of `with` or `async with` is left, or `close` is called.

    result  how it ended; None until the last line was returned
    """

    def __init__(self, contained: Contained, to_end: Callable[[Cancel], SandboxResult]) -> None:
        super().__init__()
        self.result: SandboxResult | None = None
        self._cancel = cancel = Cancel()
        self._changed = threading.Condition()
        self._ended: SandboxResult | BaseException | None = None
        contained.watch.on_output = self._take
        self._thread = threading.Thread(
            target=lambda: self._serve(to_end, cancel), name="pycontain"
        )
        self._thread.start()

    def _serve(self, to_end: Callable[[Cancel], SandboxResult], cancel: Cancel) -> None:
        try:
            ended: SandboxResult | BaseException = to_end(cancel)
        except BaseException as error:
            ended = error
        cancel.close()
        with self._changed:
            self._output.flush()
            self._ended = ended
            self._changed.notify_all()

    def _take(self, stream: int, piece: bytes) -> bool:
        """Divide output into lines; standard error is kept for the result."""
        if stream:
            return False
        with self._changed:
            self._output(piece)
            self._changed.notify_all()
        return True

    def close(self) -> None:
        """End the program, if it runs; there are no more lines."""
        assert self._cancel is not None
        self._cancel.set()
        self._thread.join()
        self._output.lines.clear()

    def _next(self) -> bytes | None:
        """Wait for a line, None at the end. Raises what ended it, unless that is a result."""
        with self._changed:
            while not self._output.lines and self._ended is None:
                self._changed.wait()
            if self._output.lines:
                return self._output.lines.popleft()
        if isinstance(self._ended, BaseException):
            raise self._ended
        self.result = self._ended
        return None
