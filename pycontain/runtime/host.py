"""The facts of this host that a plan depends on."""

from __future__ import annotations

from ..kernel.files import read_bytes
from ..plan.facts import Facts


def read_facts() -> Facts:
    """Read the capabilities of this thread and of the kernel. proc(5)."""
    status = read_bytes("/proc/thread-self/status")
    return Facts(
        last_capability=int(read_bytes("/proc/sys/kernel/cap_last_cap")),
        permitted=_mask(status, b"\nCapPrm:"),
        bounding=_mask(status, b"\nCapBnd:"),
    )


def _mask(status: bytes, name: bytes) -> int:
    value = status.partition(name)[2]
    return int(value[: value.index(b"\n")], 16)
