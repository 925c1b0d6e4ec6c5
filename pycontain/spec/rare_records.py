"""The records of `records.py` that few bundles need, such as those for limits and seccomp."""

from __future__ import annotations

from ..lean.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Int32: TypeAlias = int
    Int64: TypeAlias = int
    Uint16: TypeAlias = int
    Uint32: TypeAlias = int
    Uint64: TypeAlias = int
    Id: TypeAlias = int
    DeviceType: TypeAlias = str
    IoClass: TypeAlias = str
    MemoryMode: TypeAlias = str
    PersonalityDomain: TypeAlias = str
    SchedulerPolicy: TypeAlias = str
    SeccompAction: TypeAlias = str
    SeccompOperator: TypeAlias = str


class IdMapping(Record):
    """config-linux.md, User namespace mappings."""

    at: str
    containerID: Uint32
    hostID: Uint32
    size: Uint32


class ConsoleSize(Record):
    """config.md, Process: in characters."""

    at: str
    height: Uint16
    width: Uint16


class Scheduler(Record):
    """config.md, Linux Process: as for sched_setattr(2), times in nanoseconds."""

    at: str
    policy: SchedulerPolicy
    nice: Int32 = 0
    priority: Int32 = 0
    flags: tuple[str, ...] = ()
    runtime: Uint64 = 0
    deadline: Uint64 = 0
    period: Uint64 = 0


class IoPriority(Record):
    """config.md, Linux Process: as for ioprio_set(2)."""

    at: str
    class_: IoClass
    priority: Int32 = 0


class CpuAffinity(Record):
    """config.md, execCPUAffinity: CPU lists for exec."""

    at: str
    initial: str | None = None
    final: str | None = None


class Hook(Record):
    """config.md, POSIX-platform Hooks: timeout in seconds."""

    at: str
    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: Int64 | None = None


class Device(Record):
    """config-linux.md, Devices."""

    at: str
    type: DeviceType
    path: str
    major: Int64 | None = None
    minor: Int64 | None = None
    fileMode: Uint32 | None = None
    uid: Id | None = None
    gid: Id | None = None


class NetDevice(Record):
    """config-linux.md, Network devices."""

    at: str
    name: str | None = None


class Memory(Record):
    """config-linux.md, Memory: bytes."""

    at: str
    limit: Int64 | None = None
    reservation: Int64 | None = None
    swap: Int64 | None = None
    kernel: Int64 | None = None
    kernelTCP: Int64 | None = None
    swappiness: Uint64 | None = None
    disableOOMKiller: bool | None = None
    useHierarchy: bool | None = None
    checkBeforeUpdate: bool | None = None


class Cpu(Record):
    """config-linux.md, CPU: times in microseconds."""

    at: str
    shares: Uint64 | None = None
    quota: Int64 | None = None
    burst: Uint64 | None = None
    period: Uint64 | None = None
    realtimeRuntime: Int64 | None = None
    realtimePeriod: Uint64 | None = None
    cpus: str | None = None
    mems: str | None = None
    idle: Int64 | None = None


class Pids(Record):
    """config-linux.md, PIDs."""

    at: str
    limit: Int64 | None = None


class WeightDevice(Record):
    """config-linux.md, Block IO."""

    at: str
    major: Int64
    minor: Int64
    weight: Uint16 | None = None
    leafWeight: Uint16 | None = None


class ThrottleDevice(Record):
    """config-linux.md, Block IO: bytes or operations a second."""

    at: str
    major: Int64
    minor: Int64
    rate: Uint64


class BlockIO(Record):
    """config-linux.md, Block IO."""

    at: str
    weight: Uint16 | None = None
    leafWeight: Uint16 | None = None
    weightDevice: tuple[WeightDevice, ...] = ()
    throttleReadBpsDevice: tuple[ThrottleDevice, ...] = ()
    throttleWriteBpsDevice: tuple[ThrottleDevice, ...] = ()
    throttleReadIOPSDevice: tuple[ThrottleDevice, ...] = ()
    throttleWriteIOPSDevice: tuple[ThrottleDevice, ...] = ()


class HugepageLimit(Record):
    """config-linux.md, Huge page limits: bytes."""

    at: str
    pageSize: str
    limit: Uint64


class NetworkPriority(Record):
    """config-linux.md, Network."""

    at: str
    name: str
    priority: Uint32


class Network(Record):
    """config-linux.md, Network: cgroup v1 only."""

    at: str
    classID: Uint32 | None = None
    priorities: tuple[NetworkPriority, ...] = ()


class Rdma(Record):
    """config-linux.md, RDMA."""

    at: str
    hcaHandles: Uint32 | None = None
    hcaObjects: Uint32 | None = None


class SeccompArg(Record):
    """config-linux.md, Seccomp: a comparison of one argument."""

    at: str
    index: Uint32
    value: Uint64
    valueTwo: Uint64 = 0
    op: SeccompOperator


class SeccompRule(Record):
    """config-linux.md, Seccomp: the action for some system calls."""

    at: str
    names: tuple[str, ...]
    action: SeccompAction
    errnoRet: Uint32 | None = None
    args: tuple[SeccompArg, ...] = ()


class Seccomp(Record):
    """config-linux.md, Seccomp."""

    at: str
    defaultAction: SeccompAction
    defaultErrnoRet: Uint32 | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] | None = None
    listenerPath: str | None = None
    listenerMetadata: str | None = None
    syscalls: tuple[SeccompRule, ...] = ()


class IntelRdt(Record):
    """config-linux.md, IntelRdt."""

    at: str
    closID: str | None = None
    l3CacheSchema: str | None = None
    memBwSchema: str | None = None
    schemata: tuple[str, ...] = ()
    enableMonitoring: bool = False


class MemoryPolicy(Record):
    """config-linux.md, Memory policy: as for set_mempolicy(2)."""

    at: str
    mode: MemoryMode
    nodes: str | None = None
    flags: tuple[str, ...] = ()


class Personality(Record):
    """config-linux.md, Personality."""

    at: str
    domain: PersonalityDomain
    flags: tuple[str, ...] = ()


class TimeOffset(Record):
    """config-linux.md, Offset for time namespace."""

    at: str
    secs: Int64 = 0
    nanosecs: Uint32 = 0
