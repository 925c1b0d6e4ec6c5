"""The facts of this host that a plan depends on."""

from __future__ import annotations

from ..errors import HostError
from ..kernel.files import read_bytes
from ..lean import os
from ..plan.facts import Facts

_CAP_SYS_ADMIN = 21  # capabilities(7)


def check_rights() -> None:
    """Raises HostError unless this process may make mounts, namespaces and cgroups."""
    if os.geteuid() != 0 and not read_facts().permitted >> _CAP_SYS_ADMIN & 1:
        raise HostError.needs_root("creating a container")


def read_facts() -> Facts:
    """Read the capabilities of this thread and of the kernel, and its security modules. proc(5)."""
    status = read_bytes("/proc/thread-self/status")
    return Facts(
        last_capability=int(read_bytes("/proc/sys/kernel/cap_last_cap")),
        permitted=_mask(status, b"\nCapPrm:"),
        bounding=_mask(status, b"\nCapBnd:"),
        apparmor=os.path.exists("/sys/kernel/security/apparmor"),
        selinux=os.path.exists("/sys/fs/selinux/enforce"),
    )


def _mask(status: bytes, name: bytes) -> int:
    value = status.partition(name)[2]
    return int(value[: value.index(b"\n")], 16)
