"""The flags of `pycontain update` as the resources of a configuration (config-linux.md)."""

from __future__ import annotations

from ..errors import UsageError
from ..lean import jsontext
from ..units import size

_BYTES = {
    "memory": "memory.limit",
    "memory_reservation": "memory.reservation",
    "memory_swap": "memory.swap",
}
_NUMBERS = {
    "blkio_weight": "blockIO.weight",
    "cpu_period": "cpu.period",
    "cpu_quota": "cpu.quota",
    "cpu_burst": "cpu.burst",
    "cpu_share": "cpu.shares",
    "cpu_rt_period": "cpu.realtimePeriod",
    "cpu_rt_runtime": "cpu.realtimeRuntime",
    "cpu_idle": "cpu.idle",
    "pids_limit": "pids.limit",
}
_TEXTS = {"cpuset_cpus": "cpu.cpus", "cpuset_mems": "cpu.mems"}


def resources(flags: dict[str, object]) -> dict[str, object]:
    """
    The limits that these flags set; a flag that was not given (None or "") changes nothing.

    Raises UsageError for an amount of memory that cannot be understood.
    """
    tree: dict[str, dict[str, object]] = {}
    for key, path in (_BYTES | _NUMBERS | _TEXTS).items():
        value = flags[key]
        if value is None or value == "":
            continue
        group, name = path.split(".")
        if key in _BYTES:
            value = _limit(str(value), "--" + key.replace("_", "-"))
        tree.setdefault(group, {})[name] = value
    return dict(tree)


def rdt(flags: dict[str, object]) -> dict[str, object]:
    """The schemata of Intel RDT that these flags set, as in `linux.intelRdt`."""
    names = {"l3_cache_schema": "l3CacheSchema", "mem_bw_schema": "memBwSchema"}
    return {name: flags[key] for key, name in names.items() if flags[key]}


def _limit(text: str, at: str) -> int:
    """Bytes, or -1 for no limit."""
    return -1 if text == "-1" else size(text, at)


def read(text: str, at: str) -> dict[str, object]:
    """The resources in this JSON text. Raises UsageError that names the file."""
    try:
        value = jsontext.loads(text)
    except ValueError as error:
        raise UsageError(f"is not JSON: {error}", at=at) from None
    if not isinstance(value, dict):
        raise UsageError("is not a JSON object", at=at)
    return value
