"""
The configuration for a root file system and a command, without a hand-written config.json.

At least as strict as Docker's: fewer capabilities, no new privileges, a system call filter, and
everything that Docker hides, mounts read-only or puts into a namespace is treated the same.

Source: config.md, config-linux.md.
"""

from __future__ import annotations

from ..errors import UsageError
from ..lean.record import Record
from . import names, sample, system_calls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Podman's, which are Docker's without AUDIT_WRITE, MKNOD and NET_RAW: programs can neither forge
# packets (CVE-2020-14386) nor make device nodes.
CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP",
        "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    )
)  # fmt: skip

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Beyond the sample's: counters of interrupts, and what Podman hides of the host's disks.
_MASKED = ("/proc/interrupts", "/sys/dev/block", "/sys/fs/selinux")
_PERIOD = 100_000  # microseconds, the kernel's default: cgroup-v2.rst, cpu.max
_WRITABLE = ("/run", "/tmp", "/var/tmp")  # what programs expect to write to, if / is read-only


class Settings(Record):
    """
    What can be chosen about a container.

    env          NAME=VALUE; a later entry replaces an earlier one of the same name
    cwd          working directory
    uid gid      user and group; groups are supplementary ones
    terminal     give the program a terminal
    hostname     host name
    readonly     make the root file system read-only, with a tmpfs on /run, /tmp and /var/tmp
    network      "none" for a network namespace with a loopback device, or "host"
    memory       bytes, swap included; 0 for no limit
    cpus         processors' worth of time, such as 1.5; 0 for no limit
    pids         number of processes and threads; 0 for no limit
    tmpfs        (directory, bytes) of each file system in memory; 0 bytes for half of the memory
    rlimits      (type, value) of each limit of a process, such as ("RLIMIT_NOFILE", 64)
    cap_add      capabilities beyond the default ones, such as "NET_ADMIN", or "ALL"
    cap_drop     default capabilities to drop
    mounts       further mounts, as in config.json
    masked       further paths to hide
    annotations  (name, value) of each annotation
    seccomp      the filter of system calls, as in config.json; None for that of the capabilities
    """

    env: tuple[str, ...] = ()
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    terminal: bool = False
    hostname: str = "pycontain"
    readonly: bool = False
    network: str = "none"
    memory: int = 0
    cpus: float = 0.0
    pids: int = 0
    tmpfs: tuple[tuple[str, int], ...] = ()
    rlimits: tuple[tuple[str, int], ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    mounts: tuple[dict[str, object], ...] = ()
    masked: tuple[str, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    seccomp: dict[str, object] | None = None


_DEFAULT = Settings()


def configuration(
    rootfs: str, args: Sequence[str], settings: Settings = _DEFAULT
) -> dict[str, object]:
    """
    The configuration that runs a command in a root file system, as JSON values.

    Raises UsageError for a capability that does not exist.
    """
    added, capabilities = _capabilities(settings)
    config: dict[str, object] = {
        "ociVersion": names.OCI_VERSION,
        "process": _process(args, settings, added, capabilities),
        "root": {"path": rootfs, "readonly": settings.readonly},
        "hostname": settings.hostname,
        "mounts": _mounts(settings),
        "linux": {
            "resources": _resources(settings),
            "namespaces": [{"type": kind} for kind in _namespaces(settings)],
            "maskedPaths": sorted({*sample.MASKED, *_MASKED, *settings.masked}),
            "readonlyPaths": sample.READONLY,
            "seccomp": settings.seccomp or system_calls.profile(capabilities),
        },
    }
    if settings.annotations:
        config["annotations"] = dict(settings.annotations)
    return config


def environment(*entries: str) -> tuple[str, ...]:
    """Entries NAME=VALUE, without those that a later one of the same name replaces."""
    last = {entry.partition("=")[0]: entry for entry in entries}
    return tuple(last.values())


def _process(
    args: Sequence[str], settings: Settings, added: list[str], capabilities: list[str]
) -> dict[str, object]:
    terminal = ("TERM=xterm",) if settings.terminal else ()
    user: dict[str, object] = {"uid": settings.uid, "gid": settings.gid}
    if settings.groups:
        user["additionalGids"] = list(settings.groups)
    return {
        "terminal": settings.terminal,
        "user": user,
        "args": list(args),
        "env": list(environment(PATH, f"HOSTNAME={settings.hostname}", *terminal, *settings.env)),
        "cwd": settings.cwd,
        "capabilities": _sets(settings, added, capabilities),
        "rlimits": _rlimits(settings),
        "noNewPrivileges": True,
    }


def _sets(settings: Settings, added: list[str], capabilities: list[str]) -> dict[str, object]:
    """
    The sets of capabilities: root has all, another user only those requested.

    These are ambient, since execve(2) would drop them otherwise: capabilities(7).
    """
    if settings.uid == 0:
        return dict.fromkeys(("bounding", "effective", "permitted"), capabilities)
    own = ("effective", "permitted", "inheritable", "ambient") if added else ()
    return {"bounding": capabilities, **dict.fromkeys(own, added)}


def _capabilities(settings: Settings) -> tuple[list[str], list[str]]:
    """The names of the added capabilities, and of all that the container has."""
    added, dropped = _named(settings.cap_add, "--cap-add"), _named(settings.cap_drop, "--cap-drop")
    kept = {name for name in CAPABILITIES if name not in dropped}
    return sorted(added), sorted(kept | added)


def _named(words: Iterable[str], at: str) -> set[str]:
    capabilities: set[str] = set()
    for word in words:
        name = word.upper()
        if name == "ALL":
            capabilities.update(names.CAPABILITIES)
            continue
        name = name if name.startswith("CAP_") else f"CAP_{name}"
        if name not in names.CAPABILITIES:
            remedy = "write it as in capabilities(7), such as NET_ADMIN, or write ALL"
            raise UsageError("is not a capability", at=at, value=word, remedy=remedy)
        capabilities.add(name)
    return capabilities


def _mounts(settings: Settings) -> list[dict[str, object]]:
    readonly = tuple((directory, 0) for directory in _WRITABLE) if settings.readonly else ()
    tmpfs = dict((*readonly, *settings.tmpfs))
    proc, *others = sample.mounts()
    return [
        {**proc, "options": ["nosuid", "noexec", "nodev"]},
        *others,
        *(_tmpfs(directory, size) for directory, size in tmpfs.items()),
        *settings.mounts,
    ]


def _tmpfs(directory: str, size: int) -> dict[str, object]:
    options = ["nosuid", "nodev", "mode=755" if directory == "/run" else "mode=1777"]
    if size:
        options.append(f"size={size}")
    return {"destination": directory, "type": "tmpfs", "source": "tmpfs", "options": options}


def _namespaces(settings: Settings) -> tuple[str, ...]:
    """Those of the sample, without the network if that is the host's."""
    return tuple(
        kind for kind in sample.NAMESPACES if kind != "network" or settings.network != "host"
    )


def _rlimits(settings: Settings) -> list[dict[str, object]]:
    """The limits requested; by default no core dumps, which fill disks and contain secrets."""
    limits = {"RLIMIT_CORE": 0, **dict(settings.rlimits)}
    return [{"type": kind, "hard": value, "soft": value} for kind, value in limits.items()]


def _resources(settings: Settings) -> dict[str, object]:
    """The limits, and only the standard devices (config-linux.md, Default Devices)."""
    limits: dict[str, object] = {"devices": [{"allow": False, "access": "rwm"}]}
    if settings.memory:
        limits["memory"] = {"limit": settings.memory, "swap": settings.memory}
    if settings.cpus:
        limits["cpu"] = {"quota": round(settings.cpus * _PERIOD), "period": _PERIOD}
    if settings.pids:
        limits["pids"] = {"limit": settings.pids}
    return limits
