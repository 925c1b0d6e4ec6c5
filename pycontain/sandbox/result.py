"""How a run in a sandbox ended."""

from __future__ import annotations

from ..lean.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    Reason = Literal[
        "exit", "signal", "timeout", "memory", "pids", "disk", "output", "files", "cpu", "cancelled"
    ]


class SandboxResult(Record):
    """
    How a run in a sandbox ended.

    status  its exit status, or 128 plus the number of the signal that killed it
    reason  "exit" or "signal"; the limit that ended it: "timeout", "cpu" (time), "memory", "pids"
            (processes and threads), "disk", "output", "files" (that are open); or "cancelled"
    signal  the number of that signal, 0 if it exited
    stdout  its standard output, cut at the limit
    stderr  its standard error, likewise
    value   of Python code, what its last statement evaluates to, if that is an expression whose
            value JSON can express; otherwise None
    shown   the repr of that value; "" if there is none
    error   of Python code, the exception that ended it, such as "KeyError: 'a'"; "" if none did
    wall    seconds from the call to its end
    hits    the limits that it reached, whether or not they ended it
    files   path -> content of the files that were asked for, as far as it has written them

    cpu_time     seconds of processor time that all its processes used
    memory_peak  the most that it used at once, in bytes: of all its processes where cgroup v2 has
                 the memory controller, otherwise what was seen of them every 20 ms, and of a pool's
                 run what its largest process has used

    value, shown and error come from the sandbox: the code in it can forge them.
    """

    status: int
    reason: Reason
    signal: int
    stdout: bytes
    stderr: bytes
    value: object = None
    shown: str = ""
    error: str = ""
    wall: float
    cpu_time: float
    memory_peak: int
    hits: tuple[str, ...]
    files: Mapping[str, bytes]

    @property
    def text(self) -> str:
        """Its standard output as text."""
        return self.stdout.decode(errors="replace")

    @property
    def ok(self) -> bool:
        """Whether it exited with status 0."""
        return self.reason == "exit" and self.status == 0
