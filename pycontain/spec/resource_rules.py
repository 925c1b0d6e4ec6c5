"""
Are the limits of a control group valid? Source: config-linux.md, Control groups.

This checks the values alone: the plan checks what cgroup v2 on this host supports. Engines write 0
for "not set" (Go's zero value), so 0 is accepted wherever it has no meaning to the kernel.
"""

from __future__ import annotations

from .problem import between, keyed, problem, under
from .process_rules import cpu_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .problem import Located, Problems
    from .records import BlockIO, Cpu, DeviceRule, HugepageLimit, Memory, Resources

_LARGEST = 2**63 - 1
_UNSET_SWAPPINESS = 2**64 - 1  # Docker's -1, turned unsigned
_PERIOD = (1_000, 1_000_000)  # µs: sched-bwc, "CFS bandwidth control"


def problems(resources: Resources) -> Problems:
    """Everything that is wrong with the limits."""
    for rule in resources.devices:
        yield from _device_rule(rule)
    if resources.memory is not None:
        yield from _memory(resources.memory)
    if resources.cpu is not None:
        yield from _cpu(resources.cpu)
    if resources.pids is not None:
        yield from between(resources.pids, "limit", -1, _LARGEST)
    if resources.blockIO is not None:
        yield from _block_io(resources.blockIO)
    for limit in resources.hugepageLimits:
        yield from _hugepage(limit)
    yield from _rdma(resources)
    yield from _unified(resources)


def _device_rule(rule: DeviceRule) -> Problems:
    if not set(rule.access or "") <= set("rwm"):
        why, remedy = (
            "has other letters than r, w and m",
            'use letters of "rwm", or leave it out for all',
        )
        yield problem(under(rule, "access"), why, remedy, rule.access)
    yield from between(rule, "major", -1, 2**12 - 1)  # -1 is any
    yield from between(rule, "minor", -1, 2**20 - 1)


def _memory(memory: Memory) -> Problems:
    for key in ("limit", "reservation", "swap", "kernel", "kernelTCP"):
        yield from between(memory, key, -1, _LARGEST)
    if memory.swappiness != _UNSET_SWAPPINESS:
        yield from between(memory, "swappiness", 0, 100)
    yield from _swap(memory)


def _swap(memory: Memory) -> Problems:
    """`swap` counts memory and swap together; cgroup v2 counts swap alone."""
    at, swap, limit = under(memory, "swap"), memory.swap or 0, memory.limit or 0
    if swap > 0 and not limit:
        yield problem(at, "needs a memory limit, which it includes", "set limit too", swap)
    elif 0 < swap < limit:
        why = f"is below the memory limit, {limit}, which it includes"
        yield problem(at, why, "use at least limit, or -1 for no limit", swap)


def _cpu(cpu: Cpu) -> Problems:
    if cpu.period:
        yield from between(cpu, "period", *_PERIOD)
    if cpu.quota is not None and cpu.quota > 0:  # 0 or less is unlimited
        yield from between(cpu, "quota", _PERIOD[0], _LARGEST)
        yield from between(cpu, "burst", 0, cpu.quota)
    yield from between(cpu, "idle", 0, 1)
    yield from cpu_list(cpu, "cpus")
    yield from cpu_list(cpu, "mems")


def _block_io(block: BlockIO) -> Problems:
    weighted: tuple[Located, ...] = (block, *block.weightDevice)
    for record in weighted:
        for key in ("weight", "leafWeight"):
            if getattr(record, key):
                yield from between(record, key, 10, 1000)
    for device in block.weightDevice:
        if device.weight is None and device.leafWeight is None:
            yield problem(device.at, "sets neither weight nor leafWeight", "set one of them")


def _hugepage(limit: HugepageLimit) -> Problems:
    size, unit = limit.pageSize[:-2], limit.pageSize[-2:]
    if not (size.isascii() and size.isdecimal() and size[0] != "0" and unit in ("KB", "MB", "GB")):
        remedy = "write it as 64KB, 2MB or 1GB"
        yield problem(under(limit, "pageSize"), "is not a page size", remedy, limit.pageSize)


def _rdma(resources: Resources) -> Problems:
    for limit in resources.rdma.values():
        if limit.hcaHandles is None and limit.hcaObjects is None:
            yield problem(limit.at, "limits nothing", "set hcaHandles or hcaObjects")


def _unified(resources: Resources) -> Problems:
    """Files of a cgroup v2 directory, including those of the core (cgroup.*), as in runc."""
    for name in resources.unified:
        at = keyed(under(resources, "unified"), name)
        controller, dot, file = name.partition(".")
        if "/" in name:
            yield problem(at, "is not a plain file name", "name a file, as in memory.high")
        elif not (controller and dot and file):
            yield problem(at, "names no controller", "write it as CONTROLLER.FILE")
