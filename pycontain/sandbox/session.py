"""An interpreter that keeps its state from one piece of code to the next."""

from __future__ import annotations

import os
import threading

from ..errors import StateError
from ..library import arguments
from ..library.aio import in_thread
from ..library.closing import Closing
from . import log
from .limits import with_timeout
from .supervise import request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..library.cancel import Cancel
    from .container import Contained
    from .result import SandboxResult


class Session(Closing):
    """
    An interpreter in a sandbox, for one piece of code after the other.

        with box.session() as python:
            python.run("x = 41")
            print(python.run("x + 1").value)

    An exception in the code is part of a result and the session goes on. It ends with sys.exit,
    with its process, and with a limit: the result of that run says which.
    """

    def __init__(
        self,
        contained: Contained,
        record: str | os.PathLike[str] | None,
        forget: Callable[[], None],
    ) -> None:
        self._contained = contained
        self._record = record
        self._forget = forget
        self._lock = threading.Lock()
        self._last: SandboxResult | None = None
        self._closed = False

    def run(
        self, code: str | bytes, *, stdin: bytes | str = b"", timeout: float | None = None
    ) -> SandboxResult:
        """
        Run code; status is 0, or 1 if an exception has ended it.

        Raises StateError if the session has ended before.
        """
        return self._run(code, stdin, timeout, None)

    async def run_async(
        self, code: str | bytes, *, stdin: bytes | str = b"", timeout: float | None = None
    ) -> SandboxResult:
        """As `run`, in an asyncio task; cancelling it ends the session at once."""
        return await in_thread(lambda cancel: self._run(code, stdin, timeout, cancel))

    def _run(
        self, code: str | bytes, stdin: bytes | str, timeout: float | None, cancel: Cancel | None
    ) -> SandboxResult:
        data = arguments.data(code, "code")
        wanted = request(data, arguments.data(stdin, "stdin"))
        with self._lock:
            self._require_alive()
            watch = self._contained.watch
            usual = watch.limits
            watch.limits = with_timeout(usual, timeout)
            watch.cancel = -1 if cancel is None else cancel.fd
            watch.begin(wanted)
            if watch.serve(until_answer=True):
                result = self._contained.result()
                self._last = result
                self._end()
            else:
                result = watch.answered()
            watch.limits = usual
        return log.noted("session", data, result, self._record)

    @property
    def ended(self) -> bool:
        """Whether the interpreter has ended; the last result says why."""
        return self._closed

    def close(self) -> None:
        """End the interpreter."""
        if not self._closed:
            self._contained.stop()
            with self._lock:
                self._end()

    def _end(self) -> None:
        if not self._closed:
            self._closed = True
            self._contained.close()
            self._forget()

    def _require_alive(self) -> None:
        if not self._closed:
            return
        why = "is closed"
        if self._last is not None:
            why = f"has ended: {self._last.reason}, status {self._last.status}"
        raise StateError(why, at="the session", remedy="begin another one")
