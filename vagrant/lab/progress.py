"""Long steps say what they do and for how long."""

import sys
import threading
import time
from types import TracebackType

INTERVAL = 10.0
"""Seconds between two signs of life of a step that says nothing itself."""

SELDOM = 60.0
"""Seconds between them when the step has an output of its own."""


def say(text: str) -> None:
    """Prints a line of the lab's own, apart from a command's output: to standard error."""
    sys.stderr.write(f"lab: {text}\n")
    sys.stderr.flush()


def seconds(duration: float) -> str:
    """A duration for people: 7.4 s, 83 s, 12 min 5 s."""
    if duration < 10:
        return f"{duration:.1f} s"
    if duration < 120:
        return f"{duration:.0f} s"
    return f"{duration // 60:.0f} min {duration % 60:.0f} s"


class Step:
    """
    A step that may take long: says every few seconds how far it is, and how long it took.

    `note` may be set while the step runs, from any thread; it is shown with the next sign of life.
    """

    def __init__(self, title: str, limit: float, *, every: float = INTERVAL) -> None:
        self.title = title
        self.note = ""
        self._limit = limit
        self._every = every
        self._began = 0.0
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    @property
    def elapsed(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self._began

    @property
    def left(self) -> float:
        """Seconds until the step's limit; never below zero."""
        return max(0.0, self._limit - self.elapsed)

    def __enter__(self) -> "Step":
        self._began = time.monotonic()
        say(f"{self.title} (limit {seconds(self._limit)})")
        self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._ticker.join()
        ended = "done" if kind is None else "failed"
        say(f"{self.title}: {ended} after {seconds(self.elapsed)}")

    def _tick(self) -> None:
        while not self._over.wait(self._every):
            note = f", {self.note}" if self.note else ""
            say(f"{self.title} … {seconds(self.elapsed)}{note}")
