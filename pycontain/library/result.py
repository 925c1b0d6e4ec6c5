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

    status  its exit status, or 128 and the number of the signal that killed it
    reason  "exit", "signal", or "oom" when the kernel killed it for lack of memory
    signal  the signal's number, 0 for "exit"
    stdout  what it printed; empty when the streams were inherited
    stderr  the same of its standard error
    times   (side, step, microseconds) of what was done to start it
    wall    seconds from the call to its end
    """

    status: int
    reason: Reason
    signal: int
    stdout: bytes
    stderr: bytes
    times: tuple[tuple[str, str, int], ...]
    wall: float
