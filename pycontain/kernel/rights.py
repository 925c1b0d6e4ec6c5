"""Whether this process has the rights of the host's root, and where its state is if not."""

from __future__ import annotations

from ..lean import os
from .files import read_bytes

_STATE = "pycontain"  # its folder in /run, or in XDG_RUNTIME_DIR
_EVERY_ID = [b"0", b"0", b"4294967295"]  # the map of the first user namespace


def in_user_namespace() -> bool:
    """Whether this process is in another user namespace than the host's first."""
    return read_bytes("/proc/self/uid_map").split() != _EVERY_ID


def sets_groups() -> bool:
    """Whether supplementary groups may be set in this user namespace: user_namespaces(7)."""
    return read_bytes("/proc/self/setgroups").strip() == b"allow"


def is_rootless(choice: str = "auto") -> bool:
    """Whether there are no rights of the host's root: "true", "false", or found out by "auto"."""
    if choice != "auto":
        return choice == "true"
    return os.geteuid() != 0 or in_user_namespace()


def systemd_of(manager: str, rootless: str) -> str:
    """Whose systemd manages the cgroups: "system", "user", or "" if the manager is another."""
    if manager != "systemd":
        return ""
    return "user" if is_rootless(rootless) else "system"


def default_root(*, rootless: bool) -> str:
    """Where the state of containers is kept: XDG_RUNTIME_DIR is the user's own, as with runc."""
    runtime = os.fsdecode(os.environ.get(b"XDG_RUNTIME_DIR", b"")) if rootless else ""
    return os.path.join(runtime or "/run", _STATE)
