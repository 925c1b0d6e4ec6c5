"""
Limits as cgroup v2 files: `linux.resources` as a list of files and their contents.

The specification is written for cgroup v1. What v2 has under another name or in another unit is
converted as runc and crun do; what v2 does not have is refused (config-linux.md, Unified:
"if the conversion is not possible the runtime MUST generate an error"). As in runc, 0 stands for
"not set" where v1 had no such limit: memory, CPU shares, quota and period, block I/O weights.

Source: config-linux.md, Control groups; the kernel's admin-guide/cgroup-v2.
"""

from __future__ import annotations

from ..errors import SpecError
from ..lean.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..spec.records import BlockIO, Cpu, HugepageLimit, Memory, Pids, Rdma, Resources

_NO_LIMIT = -1
_ZERO_IS_A_LIMIT = (1, 3)
_DEFAULT_PERIOD = 100_000  # microseconds, as in a new cgroup's cpu.max


class Setting(Record):
    """
    One write to one file of a cgroup.

    at          the JSON path that it comes from
    controller  the controller that the file belongs to
    file        the file's name
    value       what is written
    optional    a kernel without the file already behaves as requested
    otherwise   what is written instead on a kernel without the file
    """

    at: str
    controller: str
    file: str
    value: str
    optional: bool = False
    otherwise: Setting | None = None


# What cgroup v2 cannot do: the field, and the values that request nothing or what v2 does anyway.
# `memory.kernel` is not among them: the specification lets runtimes ignore it, since kernels have
# had no separate limit for it since 5.16, and memory.max counts kernel memory too.
_ONLY_V1 = (
    ("memory", "kernelTCP", (None, 0, _NO_LIMIT)),
    ("memory", "swappiness", (None,)),
    ("memory", "disableOOMKiller", (None, False)),
    ("memory", "useHierarchy", (None, True)),
    ("cpu", "realtimeRuntime", (None, 0)),
    ("cpu", "realtimePeriod", (None, 0)),
    ("blockIO", "leafWeight", (None, 0)),
    ("network", "classID", (None, 0)),
    ("network", "priorities", ((),)),
)


def of_version(resources: Resources, version: str) -> Resources:
    """
    Resources as the specification of this version means them.

    A pids.limit of 0 is a limit since 1.3.0. Before, it was none in every runtime, and Podman wrote
    it for that. As in runc, the process that the container begins with is not kept from existing.
    """
    if resources.pids is None or resources.pids.limit != 0:
        return resources
    major, minor, *_ = version.split(".")
    limit = 1 if (int(major), int(minor)) >= _ZERO_IS_A_LIMIT else _NO_LIMIT
    return resources.replace(pids=resources.pids.replace(limit=limit))


def files(resources: Resources) -> tuple[Setting, ...]:
    """
    The writes that apply these limits to a cgroup, in order; `unified` is last and overrides.

    Device rules are not among them: `plan.device_filter` turns those into a program. Raises
    SpecError for a limit that cgroup v2 does not have and for values that contradict each other.
    """
    _refuse_only_v1(resources)
    return (
        *(_memory(resources.memory) if resources.memory else ()),
        *(_cpu(resources.cpu) if resources.cpu else ()),
        *(_pids(resources.pids) if resources.pids else ()),
        *(_block_io(resources.blockIO) if resources.blockIO else ()),
        *_hugetlb(resources.hugepageLimits),
        *_rdma(resources.rdma),
        *_unified(resources),
    )


def _refuse_only_v1(resources: Resources) -> None:
    for part, field, harmless in _ONLY_V1:
        record = getattr(resources, part)
        value = getattr(record, field) if record else None
        if record and value not in harmless:
            raise _only_v1(f"{record.at}.{field}", value)


def _only_v1(at: str, value: object) -> SpecError:
    why = "cannot be applied: cgroup v2 has no such limit"
    return SpecError(why, at=at, value=str(value), remedy="remove it")


def _limit(value: int, at: str) -> str:
    """A number or "max"; v1 wrote -1 for no limit."""
    if value < _NO_LIMIT:
        raise SpecError("is neither a limit nor -1 (no limit)", at=at, value=str(value))
    return "max" if value == _NO_LIMIT else str(value)


def _capped(at: str, controller: str, file: str, value: int) -> Setting:
    """A limit that may be -1, which needs no controller: without one there is no limit."""
    text = _limit(value, at)
    return Setting(at=at, controller=controller, file=file, value=text, optional=text == "max")


# --- memory ------------------------------------------------------------------------------------


def _memory(memory: Memory) -> Iterator[Setting]:
    if memory.limit:
        yield _capped(f"{memory.at}.limit", "memory", "memory.max", memory.limit)
    yield from _swap(memory)
    if memory.reservation:
        yield _capped(f"{memory.at}.reservation", "memory", "memory.low", memory.reservation)


def _swap(memory: Memory) -> Iterator[Setting]:
    """v1 counted memory and swap together, v2 counts swap alone."""
    limit, total = memory.limit or 0, memory.swap or 0
    at = f"{memory.at}.swap"
    if limit == _NO_LIMIT and not total:
        total = _NO_LIMIT  # v1's swap limit included the memory: no limit meant neither
    if not total:
        return
    swap = total if _NO_LIMIT in (limit, total) else _difference(limit, total, at)
    setting = _capped(at, "memory", "memory.swap.max", swap)
    # a kernel that does not count swap has no such file, and containers have no swap to limit
    yield setting.replace(optional=setting.optional or swap == 0)


def _difference(limit: int, total: int, at: str) -> int:
    if not limit:
        raise SpecError(
            "needs memory.limit, too: it limits memory and swap together",
            at=at,
            value=str(total),
        )
    if 0 <= total < limit:
        raise SpecError(
            f"is below memory.limit = {limit}, which it includes", at=at, value=str(total)
        )
    return total - limit


# --- cpu ---------------------------------------------------------------------------------------


def _cpu(cpu: Cpu) -> Iterator[Setting]:
    def setting(field: str, file: str, value: object, *, optional: bool = False) -> Setting:
        controller = file.partition(".")[0]
        at = f"{cpu.at}.{field}"
        return Setting(at=at, controller=controller, file=file, value=str(value), optional=optional)

    if cpu.idle is not None:
        yield setting("idle", "cpu.idle", cpu.idle)
    if cpu.shares and cpu.idle != 1:  # an idle cgroup has no weight: EINVAL
        yield setting("shares", "cpu.weight", weight_of_shares(cpu.shares))
    if cpu.quota or cpu.period:
        if cpu.burst is not None:
            # burst <= quota must hold after each write, so burst is reset before the quota changes
            yield setting("burst", "cpu.max.burst", 0, optional=True)
        quota = _limit(cpu.quota or _NO_LIMIT, f"{cpu.at}.quota")
        field = "quota" if cpu.quota else "period"
        text = f"{quota} {cpu.period or _DEFAULT_PERIOD}"
        yield setting(field, "cpu.max", text, optional=quota == "max")
    if cpu.burst is not None:
        yield setting("burst", "cpu.max.burst", cpu.burst, optional=cpu.burst == 0)
    if cpu.cpus:
        yield setting("cpus", "cpuset.cpus", cpu.cpus)
    if cpu.mems:
        yield setting("mems", "cpuset.mems", cpu.mems)


def weight_of_shares(shares: int) -> int:
    """
    CPU shares (2 to 262144, usually 1024) as a weight (1 to 10000, usually 100).

    The curve maps both ends and the defaults to each other, as in crun 1.23 and runc 1.3.2:
    weight = 10^((l^2 + 125 l) / 612 - 7/34) with l = log2(shares). Their earlier linear mapping
    turned the default of 1024 into 39.
    """
    import math

    if shares <= 2:
        return 1
    if shares >= 262_144:
        return 10_000
    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def _pids(pids: Pids) -> Iterator[Setting]:
    if pids.limit is not None:  # 0 is a limit here (specification 1.3.0)
        yield _capped(f"{pids.at}.limit", "pids", "pids.max", pids.limit)


# --- block I/O ---------------------------------------------------------------------------------

_THROTTLES = (
    ("throttleReadBpsDevice", "rbps"),
    ("throttleWriteBpsDevice", "wbps"),
    ("throttleReadIOPSDevice", "riops"),
    ("throttleWriteIOPSDevice", "wiops"),
)


def _block_io(io: BlockIO) -> Iterator[Setting]:
    if io.weight:
        yield _io_weight(f"{io.at}.weight", "", io.weight)
    for device in io.weightDevice:
        if device.leafWeight:
            raise _only_v1(f"{device.at}.leafWeight", device.leafWeight)
        if device.weight:
            yield _io_weight(device.at, f"{device.major}:{device.minor} ", device.weight)
    for field, key in _THROTTLES:
        for limit in getattr(io, field):
            rate = limit.rate or "max"  # v1 lifted a limit by 0, which v2 refuses
            value = f"{limit.major}:{limit.minor} {key}={rate}"
            yield Setting(at=limit.at, controller="io", file="io.max", value=value)


def _io_weight(at: str, device: str, weight: int) -> Setting:
    """For the BFQ scheduler, which kept v1's scale; without it for io.cost, scaled to 1..10000."""
    cost = 1 + (max(weight, 10) - 10) * 9999 // 990
    return Setting(
        at=at,
        controller="io",
        file="io.bfq.weight",
        value=f"{device}{weight}",
        otherwise=Setting(at=at, controller="io", file="io.weight", value=f"{device}{cost}"),
    )


# --- the rest ----------------------------------------------------------------------------------


def _hugetlb(limits: tuple[HugepageLimit, ...]) -> Iterator[Setting]:
    """Limit both what is reserved (mmap fails) and what is used (SIGBUS at the first access)."""
    for limit in limits:
        size = limit.pageSize
        if not (size[:-2].isascii() and size[:-2].isdecimal() and size[-2:] in ("KB", "MB", "GB")):
            raise SpecError(
                "is not the size of a huge page, such as 2MB", at=f"{limit.at}.pageSize", value=size
            )
        for file in (f"hugetlb.{size}.max", f"hugetlb.{size}.rsvd.max"):
            yield Setting(at=limit.at, controller="hugetlb", file=file, value=str(limit.limit))


def _rdma(devices: dict[str, Rdma]) -> Iterator[Setting]:
    for name, rdma in devices.items():
        limits = (("hca_handle", rdma.hcaHandles), ("hca_object", rdma.hcaObjects))
        words = [f"{key}={count}" for key, count in limits if count is not None]
        if not words:
            raise SpecError("needs hcaHandles or hcaObjects", at=rdma.at)
        value = " ".join((name, *words))
        yield Setting(at=rdma.at, controller="rdma", file="rdma.max", value=value)


def _unified(resources: Resources) -> Iterator[Setting]:
    """File names and their contents, unchanged; the kernel takes one line at a time."""
    for file, text in resources.unified.items():
        at = f"{resources.at}.unified[{file}]"
        controller, _, parameter = file.partition(".")
        if not controller or not parameter or "/" in file:
            raise SpecError("is not the name of a cgroup file: CONTROLLER.PARAMETER", at=at)
        for line in text.rstrip("\n").split("\n"):
            yield Setting(at=at, controller=controller, file=file, value=line)
