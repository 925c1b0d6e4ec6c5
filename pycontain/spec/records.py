"""
config.json as records: every property of the Linux configuration, declared once.

Fields have the specification's own names, so `spec.process.noNewPrivileges` is the value at the
JSON path `process.noNewPrivileges`. The annotations are the schema that `parse.py` reads: a field
without a default is required; `X | None` is optional; the names `Uint32`, `Propagation` and the
like are checks, listed in `parse.py`. `at` is the JSON path of the record itself.

Creating a class costs as much as filling twenty of its records, so those that few bundles need are
in `rare_records.py`, which is imported on first use.

Source: opencontainers/runtime-spec 1.3.0, config.md and config-linux.md.
"""

from __future__ import annotations

from ..lean.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from .rare_records import *

    DeviceRuleType: TypeAlias = str
    NamespaceType: TypeAlias = str
    Propagation: TypeAlias = str


class Root(Record):
    """config.md, Root."""

    at: str
    path: str
    readonly: bool = False


class Mount(Record):
    """config.md, Mounts."""

    at: str
    destination: str
    source: str | None = None
    type: str | None = None
    options: tuple[str, ...] = ()
    uidMappings: tuple[IdMapping, ...] = ()
    gidMappings: tuple[IdMapping, ...] = ()


class User(Record):
    """config.md, POSIX-platform User."""

    at: str
    uid: Id = 0
    gid: Id = 0
    umask: Uint32 | None = None
    additionalGids: tuple[Id, ...] = ()


class Capabilities(Record):
    """config.md, Linux Process: the five sets, as names."""

    at: str
    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(Record):
    """config.md, POSIX process: as for setrlimit(2)."""

    at: str
    type: str
    soft: Uint64
    hard: Uint64


class Process(Record):
    """config.md, Process."""

    at: str
    cwd: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    terminal: bool = False
    consoleSize: ConsoleSize | None = None
    user: User | None = None
    rlimits: tuple[Rlimit, ...] = ()
    capabilities: Capabilities | None = None
    noNewPrivileges: bool = False
    apparmorProfile: str | None = None
    selinuxLabel: str | None = None
    oomScoreAdj: Int32 | None = None
    scheduler: Scheduler | None = None
    ioPriority: IoPriority | None = None
    execCPUAffinity: CpuAffinity | None = None


class Hooks(Record):
    """config.md, POSIX-platform Hooks: the six kinds."""

    at: str
    prestart: tuple[Hook, ...] = ()
    createRuntime: tuple[Hook, ...] = ()
    createContainer: tuple[Hook, ...] = ()
    startContainer: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


HOOK_KINDS = tuple(name for name in Hooks.FIELDS if name != "at")


class Namespace(Record):
    """config-linux.md, Namespaces."""

    at: str
    type: NamespaceType
    path: str | None = None


class DeviceRule(Record):
    """config-linux.md, Allowed Device list."""

    at: str
    allow: bool
    type: DeviceRuleType | None = None
    major: Int64 | None = None
    minor: Int64 | None = None
    access: str | None = None


class Resources(Record):
    """config-linux.md, Control groups."""

    at: str
    devices: tuple[DeviceRule, ...] = ()
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    blockIO: BlockIO | None = None
    hugepageLimits: tuple[HugepageLimit, ...] = ()
    network: Network | None = None
    rdma: dict[str, Rdma] = {}
    unified: dict[str, str] = {}


class Linux(Record):
    """config-linux.md."""

    at: str
    namespaces: tuple[Namespace, ...] = ()
    uidMappings: tuple[IdMapping, ...] = ()
    gidMappings: tuple[IdMapping, ...] = ()
    timeOffsets: dict[str, TimeOffset] = {}
    devices: tuple[Device, ...] = ()
    netDevices: dict[str, NetDevice] = {}
    cgroupsPath: str | None = None
    resources: Resources | None = None
    intelRdt: IntelRdt | None = None
    memoryPolicy: MemoryPolicy | None = None
    sysctl: dict[str, str] = {}
    seccomp: Seccomp | None = None
    rootfsPropagation: Propagation | None = None
    maskedPaths: tuple[str, ...] = ()
    readonlyPaths: tuple[str, ...] = ()
    mountLabel: str | None = None
    personality: Personality | None = None


class Spec(Record):
    """config.md: the whole configuration. `process` is needed by start, not by create."""

    at: str
    ociVersion: str
    root: Root | None = None
    mounts: tuple[Mount, ...] = ()
    process: Process | None = None
    hostname: str | None = None
    domainname: str | None = None
    hooks: Hooks | None = None
    annotations: dict[str, str] = {}
    linux: Linux | None = None


def __getattr__(name: str) -> type[Record]:
    """A rare record (PEP 562)."""
    if not name.startswith("__"):  # the import system looks for __path__
        from . import rare_records

        if name in vars(rare_records):
            found: type[Record] = vars(rare_records)[name]
            return found
    raise AttributeError(f"there is no record {name}")
