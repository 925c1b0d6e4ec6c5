"""How a program in a container ended."""

from __future__ import annotations

from .lean.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Reason = Literal["exit", "signal", "timeout", "memory", "output"]

_SHOWN = 60  # bytes of output in repr()


class Result(Record):
    """
    How a program in a container ended.

    status       its exit status, or 128 plus the number of the signal that killed it
    reason       why it ended:
                 "exit"     by itself
                 "signal"   killed by a signal
                 "memory"   it failed after the out-of-memory killer had killed some of it
                 "output"   it printed more than max_output, and was killed if it still ran
                 "timeout"  we killed it: it ran too long (only in Timeout.result)
    signal       the signal's number, 0 if it exited
    stdout       its standard output, as far as it was captured
    stderr       its standard error, likewise
    truncated    whether it printed more than is in stdout or stderr
    times        (side, step, microseconds) of the steps that started it; not shown by repr
    wall         seconds from the call to its end
    cpu_time     seconds of CPU time, user and system: of all in the container's cgroup, or, for
                 exec and without a cgroup, of the program and of what it has waited for; None if
                 unknown
    memory_peak  the most bytes of memory that the container's cgroup had in use; None if unknown:
                 for exec, before Linux 5.19, and without the memory controller in cgroup v2
    """

    status: int
    reason: Reason
    signal: int
    stdout: bytes
    stderr: bytes
    truncated: bool = False
    times: tuple[tuple[str, str, int], ...]
    wall: float
    cpu_time: float | None = None
    memory_peak: int | None = None

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
