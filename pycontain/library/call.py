"""One program in a container, from the request to its end."""

from __future__ import annotations

import select
import signal
import time
from contextlib import contextmanager

from ..errors import Interrupted, PycontainError, Timeout
from ..result import Result
from . import arguments
from .cancel import Limit
from .streams import Streams, Wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from ..result import Reason
    from .cancel import Cancel
    from .process import Process
    from .streams import StreamArguments

_TIME_TO_END = 0.5  # seconds for a killed program: it may be in uninterruptible sleep
_LONGEST_WAIT = 1 << 30  # milliseconds of one poll(2)


class Call:
    """
    One program in a container, from the request to its end; it does not outlive the `with` block.

    id       the container
    until    what ends it early
    process  the program, once it runs
    reason   why we have ended it: "timeout" or "output"; None if we have not
    ended    whether it has ended

    earlier_kills  how many processes of the container the out-of-memory killer had killed before
    """

    def __init__(
        self,
        id: str,
        streams: StreamArguments,
        timeout: float | None,
        cancel: Cancel | None = None,
    ) -> None:
        self.began = time.perf_counter()
        self.id = id
        self.timeout = arguments.seconds(timeout)
        self.until = Limit(self.timeout, cancel)
        self.streams = Streams(Wanted(**streams))
        self.process: Process | None = None
        self.reason: Reason | None = None
        self.ended = False
        self.earlier_kills = 0
        self._watch = select.poll()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _: type[BaseException] | None,
        error: BaseException | None,
        __: TracebackType | None,
    ) -> None:
        """Close everything. Once the time has run out, every error becomes a Timeout."""
        self.close()
        self._translate(error)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """A part of the call: errors as for the `with` block, but the call continues."""
        try:
            yield
        except PycontainError as error:
            self._translate(error)
            raise

    def _translate(self, error: BaseException | None) -> None:
        known = isinstance(error, Interrupted) or (isinstance(error, Timeout) and error.result)
        if isinstance(error, PycontainError) and not known and self.until.left == 0:
            raise self.timed_out(self.result(137, signal.SIGKILL, "timeout")) from None

    def close(self) -> None:
        """End the program, if it runs, and close its streams."""
        if self.process is not None and not self.ended:
            self.process.kill()
        self.streams.close()

    def timed_out(self, result: Result) -> Timeout:
        """The error for a program that ran too long, with its result so far."""
        error = Timeout(f"ran longer than {self.timeout:g} s", at="container", value=self.id)
        error.result = result
        return error

    # --- the program ---------------------------------------------------------------------------

    def start(self, request: Callable[[list[int], Limit], Process]) -> None:
        """Call `request`, which has the program started with these streams."""
        self.process = request(self.streams.theirs, self.until)
        self.streams.given()
        if self.process.terminal >= 0:
            self.streams.use_terminal(self.process.terminal)
        self.streams.register(self._watch)
        self._watch.register(self.process.pidfd, select.POLLIN)
        if self.until.signals >= 0:
            self._watch.register(self.until.signals, select.POLLIN)

    def serve(self) -> None:
        """Write and read until the program has ended, or we have killed it."""
        while not self.ended:
            self.turn()

    def turn(self) -> None:
        """Wait for one event and handle it. Raises Interrupted."""
        assert self.process is not None, "it was started"
        left = self.until.left
        wait = _LONGEST_WAIT if left is None else left * 1000
        ready = dict(self._watch.poll(wait))
        if self.process.pidfd in ready:
            self.streams.drain()
            self.ended = True
        elif self.until.signals in ready:
            raise self.until.interruption()
        elif self.until.left == 0:
            self._end("timeout")
        else:
            self.streams.move(ready)
        if self.streams.overflowed and self.reason is None:
            self._end("output")

    def _end(self, reason: Reason) -> None:
        assert self.process is not None
        self.reason = reason
        if not self.ended:
            self.process.kill()
            self.process.wait(_TIME_TO_END)
            self.streams.drain()
            self.ended = True

    # --- its end -------------------------------------------------------------------------------

    def result(
        self,
        status: int,
        number: int,
        reason: Reason,
        cpu_time: float | None = None,
        memory_peak: int | None = None,
    ) -> Result:
        """The result of a program with this exit status; number is that of the signal, or 0."""
        return Result(
            status=status,
            reason=reason,
            signal=int(number),
            stdout=bytes(self.streams.captured[1].data),
            stderr=bytes(self.streams.captured[2].data),
            truncated=self.streams.truncated,
            times=self.process.times if self.process is not None else (),
            wall=time.perf_counter() - self.began,
            cpu_time=cpu_time,
            memory_peak=memory_peak,
        )
