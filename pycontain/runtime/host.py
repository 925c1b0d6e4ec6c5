"""The facts of this host that a plan depends on."""

from __future__ import annotations

from ..kernel.files import read_bytes
from ..kernel.rights import in_user_namespace, sets_groups
from ..lean import os
from ..plan.facts import Facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.userns import Map

_CAP_SYS_ADMIN = 21  # capabilities(7)


entered: list[tuple[Map, Map]] = []  # the maps of the user namespace that this process is root of


def user() -> int:
    """The user whose containers these are: root of a user namespace is who has entered it."""
    if not entered:
        return os.geteuid()
    uids, _ = entered[0]
    return next(outside for inside, outside, _ in uids if inside == 0)


def may_contain() -> bool:
    """Whether this process may create mounts and namespaces, as root or in a user namespace."""
    return os.geteuid() == 0 or bool(read_facts().permitted >> _CAP_SYS_ADMIN & 1)


def read_facts() -> Facts:
    """Read the capabilities of this thread and of the kernel, and its security modules. proc(5)."""
    status = read_bytes("/proc/thread-self/status")
    nested = in_user_namespace()
    return Facts(
        nested=nested,
        sets_groups=not nested or sets_groups(),
        last_capability=int(read_bytes("/proc/sys/kernel/cap_last_cap")),
        permitted=_mask(status, b"\nCapPrm:"),
        bounding=_mask(status, b"\nCapBnd:"),
        apparmor=_uses_apparmor(),
        selinux=os.path.exists("/sys/fs/selinux/enforce"),
    )


def _uses_apparmor() -> bool:
    """Not seen by its file system: Podman unmounts /sys/kernel where it maps ids."""
    path = "/sys/module/apparmor/parameters/enabled"
    return os.path.exists(path) and read_bytes(path) == b"Y\n"


def _mask(status: bytes, name: bytes) -> int:
    value = status.partition(name)[2]
    return int(value[: value.index(b"\n")], 16)
