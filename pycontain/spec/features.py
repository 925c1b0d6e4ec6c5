"""
What pycontain supports, as the features document of the runtime specification.

The same on every host: it describes the program, not the kernel that it runs on. null or absence
would mean "unknown", so missing features are listed as false. Source: features.md,
features-linux.md.
"""

from __future__ import annotations

from . import memory_rules, names
from .annotations import OBEYED
from .records import HOOK_KINDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
_NAMESPACES = ("cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts")


def features(mount_options: Iterable[str]) -> dict[str, object]:
    """The features document, as JSON values. mount_options: those that the plan supports."""
    return {
        "ociVersionMin": names.OCI_VERSION_MIN,
        "ociVersionMax": names.OCI_VERSION,
        "hooks": list(HOOK_KINDS),
        "mountOptions": sorted(mount_options),
        "linux": {
            "namespaces": list(_NAMESPACES),
            "capabilities": list(names.CAPABILITIES),
            "cgroup": {
                "v1": False,
                "v2": True,
                "systemd": True,
                "systemdUser": True,
                "rdma": True,
            },
            "seccomp": _seccomp(),
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
            "memoryPolicy": {"modes": [*memory_rules.MODES], "flags": [*memory_rules.FLAGS]},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": {
            "org.opencontainers.runc.checkpoint.enabled": "true",  # engines look for it
            "run.pycontain.isolations": "namespaces",
        },
        "potentiallyUnsafeConfigAnnotations": list(OBEYED),
    }


def _seccomp() -> dict[str, object]:
    return {
        "enabled": True,
        "actions": sorted(names.SECCOMP_ACTIONS),
        "operators": sorted(names.SECCOMP_OPERATORS),
        "archs": sorted(names.SECCOMP_ARCHS),
        "knownFlags": sorted(names.SECCOMP_FLAGS),
        "supportedFlags": sorted(names.SECCOMP_FLAGS),
    }
