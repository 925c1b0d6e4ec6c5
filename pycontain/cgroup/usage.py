"""What the processes of a cgroup have used. The kernel's admin-guide/cgroup-v2."""

from __future__ import annotations

import errno

from ..errors import KernelError
from .tree import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .tree import Cgroup


def cpu_time(cgroup: Cgroup) -> float | None:
    """Seconds of CPU time, user and system, that all of them have used; None if unknown."""
    text = _read(cgroup, "cpu.stat")  # also without the cpu controller
    return int(table(text)["usage_usec"]) / 1e6 if text else None


def memory_peak(cgroup: Cgroup) -> int | None:
    """The most bytes of memory in use at a time; None before 5.19 and without the controller."""
    text = _read(cgroup, "memory.peak")
    return int(text) if text else None


def _read(cgroup: Cgroup, file: str) -> str:
    try:
        return cgroup.read(file)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):  # no such file, or the cgroup is removed
            return ""
        raise
