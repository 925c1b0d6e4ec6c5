"""How a program in a container ended."""

from __future__ import annotations

from ..lean.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Reason = Literal["exit", "signal", "oom"]


_SHOWN = 60  # bytes of output in repr()


class Result(Record):
    """
    How a program in a container ended.

    status  its exit status, or 128 plus the number of the signal that killed it
    reason  "exit", "signal", or "oom" if the out-of-memory killer killed it
    signal  the signal's number, 0 for "exit"
    stdout  its standard output; empty if the streams were inherited
    stderr  its standard error, likewise
    times   (side, step, microseconds) of the steps that started it
    wall    seconds from the call to its end
    """

    status: int
    reason: Reason
    signal: int
    stdout: bytes
    stderr: bytes
    times: tuple[tuple[str, str, int], ...]
    wall: float

    def __repr__(self) -> str:
        shown = {name: value for name, value in self.fields().items() if name != "times"}
        inner = ", ".join(f"{name}={_short(value)}" for name, value in shown.items())
        return f"Result({inner})"


def _short(value: object) -> str:
    """A value in one line, cut where it is long."""
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, bytes) and len(value) > _SHOWN:
        return f"{value[:_SHOWN]!r}… ({len(value)} bytes)"
    return repr(value)
