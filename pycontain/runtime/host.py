"""The facts of this host that a plan depends on."""

from __future__ import annotations

from ..kernel import calls
from ..kernel.files import read_text
from ..plan.facts import Facts


def read_facts() -> Facts:
    """Ask the kernel."""
    _, permitted, _ = calls.capget()
    return Facts(
        last_capability=int(read_text("/proc/sys/kernel/cap_last_cap")),
        permitted=permitted,
        bounding=permitted,
    )
