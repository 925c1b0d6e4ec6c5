"""Statistics of a run's exits, counted and timed by reason, and a trace with a line for each."""

from __future__ import annotations

import time

from ..lean.jsontext import fits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

clock = time.perf_counter
_DUMPED = {"count": {str: int}, "seconds": {str: float}, "guest": float}


class Stats:
    """
    Exits by reason.

    count    reason -> how many
    seconds  reason -> time the monitor spent on them
    guest    seconds spent in the guest, entry and exit included
    output   bytes that a machine wrote to its consoles
    """

    __slots__ = ("count", "guest", "output", "seconds")

    def __init__(self) -> None:
        self.count: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.guest = 0.0
        self.output = 0

    def add(self, reason: str, guest: float, monitor: float) -> None:
        """One exit: the time in the guest before it, and in the monitor after it."""
        self.count[reason] = self.count.get(reason, 0) + 1
        self.seconds[reason] = self.seconds.get(reason, 0.0) + monitor
        self.guest += guest

    def dump(self) -> dict[str, object]:
        """For load() in another process."""
        return {"count": self.count, "seconds": self.seconds, "guest": self.guest}

    def load(self, record: object) -> None:
        """Add what another process has counted. Raises ValueError for what dump() did not make."""
        if record is None:
            return
        if not isinstance(record, dict) or not fits(record, _DUMPED):
            raise ValueError("is not a record of statistics")
        for reason, count in record["count"].items():
            self.count[reason] = self.count.get(reason, 0) + count
            self.seconds[reason] = self.seconds.get(reason, 0.0) + record["seconds"][reason]
        self.guest += record["guest"]

    def total(self) -> int:
        """How many exits there were."""
        return sum(self.count.values())

    def spent(self) -> float:
        """Seconds in guest and monitor together."""
        return self.guest + sum(self.seconds.values())

    def record(self) -> dict[str, object]:
        """For JSON: exits by reason, most frequent first; times in seconds."""
        order = sorted(self.count, key=lambda reason: -self.count[reason])
        return {
            "exits": self.total(),
            "guest_seconds": round(self.guest, 9),
            "monitor_seconds": round(sum(self.seconds.values()), 9),
            "output_bytes": self.output,
            "by_reason": [
                {"reason": name, "count": self.count[name], "seconds": round(self.seconds[name], 9)}
                for name in order
            ],
        }


class Trace:
    """Prints each exit: its number, what caused it, the registers, and bytes of code."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._number = 0

    def exit(self, what: str, registers: Mapping[str, int], code: bytes) -> None:
        """One exit; code is the bytes at the instruction pointer, mostly past the instruction."""
        self._number += 1
        shown = " ".join(f"{name}={value:x}" for name, value in registers.items())
        self._write(f"{self._number:5} {what:32} {shown} [{code.hex(' ')}]\n")
