"""
The configuration that `pycontain spec` writes, as a starting point.

A shell with its own processes, network, host name and file systems, and three capabilities.
None of them is inheritable or ambient, so programs that it executes as another user do not get them
(CVE-2022-29162).
"""

from __future__ import annotations

from ..lean import jsontext
from . import names

_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]

_MOUNTS: tuple[tuple[str, str, str, list[str]], ...] = (
    # destination, type, source, options
    ("/proc", "proc", "proc", []),
    ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", "devpts",
        ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/dev/shm", "tmpfs", "shm", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", "ro"]),
)  # fmt: skip

MASKED = [
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
    "/sys/devices/virtual/powercap", "/sys/devices/virtual/tpm", "/sys/firmware",
]  # fmt: skip

READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")


def sample() -> dict[str, object]:
    """The sample configuration, as JSON values."""
    return {
        "ociVersion": names.OCI_VERSION,
        "process": _process(),
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "pycontain",
        "mounts": mounts(),
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in NAMESPACES],
            "maskedPaths": MASKED,
            "readonlyPaths": READONLY,
        },
    }


def rootless(uid: int, gid: int) -> dict[str, object]:
    """
    The sample for a user without root privileges, who is root in the container, as in runc.

    It shares the host's network, since the user could not configure another, and has no limits.
    """
    shared = {"destination": "/sys", "type": "none", "source": "/sys"}
    options = ["rbind", "nosuid", "noexec", "nodev", "ro"]
    listed = [mount for mount in map(_for_user, mounts()) if mount["type"] != "sysfs"]
    kinds = ("user", *(kind for kind in NAMESPACES if kind != "network"))
    linux = {
        "uidMappings": [{"containerID": 0, "hostID": uid, "size": 1}],
        "gidMappings": [{"containerID": 0, "hostID": gid, "size": 1}],
        "namespaces": [{"type": kind} for kind in kinds],
        "maskedPaths": MASKED,
        "readonlyPaths": READONLY,
    }
    cgroup = listed.pop()
    return {**sample(), "mounts": [*listed, {**shared, "options": options}, cgroup], "linux": linux}


def _for_user(mount: dict[str, object]) -> dict[str, object]:
    """The mount without options for ids that are not mapped."""
    options = mount.get("options", [])
    assert isinstance(options, list), "made below"
    kept = [option for option in options if not option.startswith(("uid=", "gid="))]
    return {**mount, "options": kept} if options else mount


def mounts() -> list[dict[str, object]]:
    """The mounts that a container needs, as JSON values; the first is /proc."""
    return [_mount(*columns) for columns in _MOUNTS]


def text() -> str:
    """The sample configuration, as the text of a config.json."""
    return jsontext.pretty(sample()) + "\n"


def _process() -> dict[str, object]:
    return {
        "terminal": True,
        "user": {"uid": 0, "gid": 0},
        "args": ["sh"],
        "env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TERM=xterm",
        ],
        "cwd": "/",
        "capabilities": {
            "bounding": _CAPABILITIES,
            "effective": _CAPABILITIES,
            "permitted": _CAPABILITIES,
        },
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    }


def _mount(destination: str, kind: str, source: str, options: list[str]) -> dict[str, object]:
    mount: dict[str, object] = {"destination": destination, "type": kind, "source": source}
    return {**mount, "options": options} if options else mount
