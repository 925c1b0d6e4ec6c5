"""
What a sandbox may use, and what enforces that on this host.

cgroup v2 limits memory, processors and processes of a sandbox as a whole. On a hybrid
host, where a controller belongs to v1, a second line does instead:

    memory     the data of each process (RLIMIT_DATA), and a look at all of them every 20 ms
    pids       the processes and threads of a user that only this sandbox has (RLIMIT_NPROC)
    cpus       that many processors, rounded up (sched_setaffinity(2))

What does not depend on cgroups: the size of the file system in memory that holds all of a sandbox's
files, the open files of each process (RLIMIT_NOFILE), time, processor time, and output.

Source: the kernel's admin-guide/cgroup-v2, getrlimit(2).
"""

from __future__ import annotations

import math
import os

from .. import units
from ..cgroup import controllers, place
from ..errors import UsageError
from ..lean.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict, Unpack

    class LimitArguments(TypedDict, total=False):
        """The fields of `Limits` as callers give them: None for the default, 0 for no limit."""

        memory: str | int | None
        cpus: float | None
        pids: int | None
        disk: str | int | None
        open_files: int | None
        timeout: float | None
        cpu: float | None
        output: str | int | None


DATA = "RLIMIT_DATA"
_MIB = 1 << 20
_SIZES = ("memory", "disk", "output")  # which may be texts such as 64M
_LEAST_MEMORY = 16 * _MIB  # an interpreter takes about ten


class Limits(Record):
    """
    What a run may use. 0 means no limit, except for disk.

    memory      bytes, swap included; the files of the sandbox are part of it on cgroup v2
    cpus        processors' worth of time, such as 1.5
    pids        processes and threads
    disk        bytes of files, in /work, /tmp and /dev/shm together
    open_files  of each process
    timeout     seconds of wall time
    cpu         seconds of processor time
    output      bytes of standard output and standard error together
    """

    memory: int = 256 * _MIB
    cpus: float = 1.0
    pids: int = 64
    disk: int = 64 * _MIB
    open_files: int = 256
    timeout: float = 30.0
    cpu: float = 0.0
    output: int = 16 * _MIB


def limits(**given: Unpack[LimitArguments]) -> Limits:
    """The limits that a caller has given. Sizes can be texts such as "256M". Raises UsageError."""
    default = Limits()
    chosen = {
        name: _number(name, value, type(default.fields()[name]))
        for name, value in given.items()
        if value is not None
    }
    made = default.replace(**chosen)
    if 0 < made.memory < _LEAST_MEMORY:
        raise UsageError("is too little to start a program", at="memory", value=str(made.memory))
    if not made.disk:
        raise UsageError("must be limited", at="disk", value="0", remedy="give a size")
    return made


def with_timeout(given: Limits, timeout: float | None) -> Limits:
    """The same limits with another timeout, None for the same. Raises UsageError."""
    if timeout is None:
        return given
    return given.replace(timeout=_number("timeout", timeout, float))


def _number(name: str, value: object, kind: type) -> int | float:
    if isinstance(value, str) and name in _SIZES:
        return units.size(value, name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UsageError("is not a number", at=name, value=repr(value))
    if not math.isfinite(value) or value < 0:
        raise UsageError("is not a limit", at=name, value=str(value), remedy="give 0 for none")
    if kind is int and value != int(value):
        raise UsageError("is not a whole number", at=name, value=str(value))
    return int(value) if kind is int else float(value)


class Held:
    """
    Which limits cgroup v2 holds on this host: "memory", "cpu" and "pids" can be.

    Raises HostError if cgroup2 is not mounted.
    """

    def __init__(self) -> None:
        self.mount = place.find_mount()
        self.names = frozenset(controllers.of(self.mount)) & {"memory", "cpu", "pids"}

    def settings(self, limits: Limits) -> dict[str, object]:
        """The fields of `spec.default.Settings` for what cgroup v2 holds."""
        return {
            "memory": limits.memory if "memory" in self.names else 0,
            "cpus": limits.cpus if "cpu" in self.names else 0.0,
            "pids": limits.pids if "pids" in self.names else 0,
        }

    def files(self, limits: Limits) -> list[tuple[str, str]]:
        """(file, content) of the limits in a cgroup of a run."""
        found = []
        if "memory" in self.names and limits.memory:
            found = [("memory.max", str(limits.memory)), ("memory.swap.max", "0"),
                     ("memory.oom.group", "1")]  # fmt: skip
        if "cpu" in self.names and limits.cpus:
            found.append(("cpu.max", f"{round(limits.cpus * 100_000)} 100000"))
        if "pids" in self.names and limits.pids:
            found.append(("pids.max", str(limits.pids)))
        return found

    def rlimits(self, limits: Limits) -> list[tuple[str, int]]:
        """(name, value) of the limits of each process."""
        found = [("RLIMIT_CORE", 0)]
        if limits.open_files:
            found.append(("RLIMIT_NOFILE", limits.open_files))
        if limits.cpu:
            found.append(("RLIMIT_CPU", math.ceil(limits.cpu)))
        if "memory" not in self.names and limits.memory:
            found.append((DATA, limits.memory))
        if "pids" not in self.names and limits.pids:
            found.append(("RLIMIT_NPROC", limits.pids + 1))
        return found

    def processors(self, limits: Limits) -> set[int]:
        """The processors that a run keeps to; empty for all."""
        usable = sorted(os.sched_getaffinity(0))
        wanted = math.ceil(limits.cpus)
        if "cpu" in self.names or not wanted or wanted >= len(usable):
            return set()
        return set(usable[:wanted])
