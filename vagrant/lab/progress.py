"""Progress messages of long steps, and how long they took."""

import sys
import threading
import time
from types import TracebackType

INTERVAL = 10.0
"""Seconds between two progress messages of a step that prints nothing itself."""

SELDOM = 60.0
"""Seconds between them when the step has its own output."""


def say(text: str) -> None:
    """Prints a message of the lab to standard error, apart from a command's output."""
    sys.stderr.write(f"lab: {text}\n")
    sys.stderr.flush()


def seconds(duration: float) -> str:
    """A human-readable duration: 7.4 s, 83 s, 12 min 5 s."""
    if duration < 10:
        return f"{duration:.1f} s"
    if duration < 120:
        return f"{duration:.0f} s"
    return f"{duration // 60:.0f} min {duration % 60:.0f} s"


class Step:
    """
    A step that may take long: prints its progress regularly and, at the end, how long it took.

    `note` may be set while the step runs, from any thread; the next progress message includes it.
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
