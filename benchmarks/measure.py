"""One run of a program: wall time, CPU time of the whole tree, peak memory."""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

TIME = shutil.which("time", path="/usr/bin:/bin")
_PEAKS = 7  # runs; with a garbage collector the peak varies by a few percent


class Sample(NamedTuple):
    """One run: milliseconds; CPU time is user and system time of the program and its children."""

    wall: float
    cpu: float


class Subject(NamedTuple):
    """
    Something to measure.

    prepare  sets up what the command needs; not measured
    act      is called in this process instead of running a command; if it returns a float, that is
             taken as the milliseconds
    """

    name: str
    command: Sequence[str] = ()
    prepare: Callable[[], object] = lambda: None
    act: Callable[[], object] | None = None

    def sample(self) -> Sample:
        """Run it once. Raises RuntimeError when it fails."""
        self.prepare()
        if self.act is None:
            return spawned(self.command)
        began, cpu = time.perf_counter(), _own_cpu()
        measured = self.act()
        if isinstance(measured, float):
            return Sample(measured, measured)
        return Sample((time.perf_counter() - began) * 1e3, (_own_cpu() - cpu) * 1e3)

    def failure(self) -> str:
        """Why it cannot be measured here: the last line of its output; empty when it can."""
        try:
            self.sample()
        except (RuntimeError, OSError) as error:
            return str(error)
        return ""

    def peak_memory(self) -> int | None:
        """
        The largest resident set of any of its processes, in KiB: the median of some runs.

        A process starts with the peak of the one that spawned it (setmax_mm_hiwater_rss in the
        kernel's fs/exec.c), which would be Python's; so the small time(1) spawns it and reports.
        """
        if self.act is not None or TIME is None:
            return None
        return statistics.median_low(self._peak(TIME) for _ in range(_PEAKS))

    def _peak(self, program: str) -> int:
        self.prepare()
        with tempfile.NamedTemporaryFile("r") as report:
            spawned([program, "-f", "%M", "-o", report.name, *self.command])
            return int(report.read().split()[-1])


def _own_cpu() -> float:
    """CPU seconds of this process and the children it reaped; not of a worker that still runs."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, who))


def spawned(command: Sequence[str]) -> Sample:
    """Run a command until it exits, hiding its output. Raises RuntimeError when it fails."""
    with tempfile.TemporaryFile() as output:
        streams = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        copies = [(os.POSIX_SPAWN_DUP2, output.fileno(), fd) for fd in (1, 2)]
        began = time.perf_counter()
        pid = os.posix_spawn(
            command[0], list(command), os.environ, file_actions=[*streams, *copies]
        )
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter() - began
        if status:
            output.seek(0)
            lines = output.read().decode(errors="replace").strip().splitlines() or [str(status)]
            raise RuntimeError(lines[-1])
    return Sample(wall * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3)
