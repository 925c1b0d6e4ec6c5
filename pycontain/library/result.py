"""How a program in a container ended."""

from __future__ import annotations

from ..lean.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Reason = Literal["exit", "signal", "oom"]


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
