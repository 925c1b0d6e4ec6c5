"""
The resource usage of a cgroup, in the JSON format of `runc events --stats` (its `data`).

runc's names are those of cgroup v1; the files are those of cgroup v2 (the kernel's
admin-guide/cgroup-v2). Values whose file a cgroup does not have are left out, but never one of
runc's parts.
"""

from __future__ import annotations

import errno

from ..errors import KernelError
from .tree import Cgroup, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Json: TypeAlias = dict[str, object]

_UNLIMITED = 2**64 - 1  # runc's value for unlimited memory
_NO_RDMA_LIMIT = 2**32 - 1


def stats(cgroup: Cgroup) -> Json:
    """
    The statistics of a cgroup: cpu, memory, pids, blkio, hugetlb, rdma and misc.

    Times are in nanoseconds, sizes in bytes. Raises KernelError if the cgroup was deleted.
    """
    more = {"rdma": _rdma(cgroup), "misc": _misc(cgroup)}
    return {
        "cpu": _cpu(cgroup),
        "cpuset": {},  # of v1 alone, as are the next two that are always empty
        "memory": _memory(cgroup),
        "pids": _pids(cgroup),
        "blkio": _block_io(cgroup),
        "hugetlb": _hugetlb(cgroup),
        "intel_rdt": {},
        "network_interfaces": None,
        **{name: part for name, part in more.items() if part},
    }


def _cpu(cgroup: Cgroup) -> Json:
    used = _table(cgroup, "cpu.stat")
    cpu: Json = {
        "usage": {
            "total": used.get("usage_usec", 0) * 1000,
            "kernel": used.get("system_usec", 0) * 1000,
            "user": used.get("user_usec", 0) * 1000,
        }
    }
    if "nr_periods" in used:  # only with the cpu controller
        cpu["throttling"] = {
            "periods": used["nr_periods"],
            "throttledPeriods": used["nr_throttled"],
            "throttledTime": used["throttled_usec"] * 1000,
        }
    return _with_pressure(cgroup, "cpu.pressure", cpu)


def _memory(cgroup: Cgroup) -> Json:
    raw = _table(cgroup, "memory.stat")
    if not raw:
        return {}
    memory, swap = _memory_entry(cgroup, "memory"), _memory_entry(cgroup, "memory.swap")
    total = {
        "usage": memory["usage"] + swap["usage"],
        "limit": min(memory["limit"] + swap["limit"], _UNLIMITED),
        "failcnt": 0,
    }
    entry: Json = {"cache": raw.get("file", 0), "usage": memory, "swap": total, "raw": raw}
    return _with_pressure(cgroup, "memory.pressure", entry)


def _memory_entry(cgroup: Cgroup, name: str) -> dict[str, int]:
    entry = {
        "usage": _number(cgroup, f"{name}.current", 0),
        "limit": _number(cgroup, f"{name}.max", _UNLIMITED),
        "failcnt": 0,
    }
    peak = _number(cgroup, f"{name}.peak", 0)  # memory: 5.19, swap: 6.5
    return {**entry, "max": peak} if peak else entry


def _pids(cgroup: Cgroup) -> Json:
    current = _number(cgroup, "pids.current", -1)
    if current < 0:
        return {}
    return {"current": current, "limit": _number(cgroup, "pids.max", 0)}


_IO_TABLES = {
    "rbytes": ("ioServiceBytesRecursive", "Read"),
    "wbytes": ("ioServiceBytesRecursive", "Write"),
    "rios": ("ioServicedRecursive", "Read"),
    "wios": ("ioServicedRecursive", "Write"),
}


def _block_io(cgroup: Cgroup) -> Json:
    tables: dict[str, list[Json]] = {}
    for device, counts in _nested(cgroup, "io.stat"):
        major, _, minor = device.partition(":")
        for key, (name, op) in _IO_TABLES.items():
            if key in counts:
                entry = {"major": int(major), "minor": int(minor), "op": op}
                tables.setdefault(name, []).append({**entry, "value": int(counts[key])})
    return _with_pressure(cgroup, "io.pressure", dict(tables))


def _hugetlb(cgroup: Cgroup) -> Json:
    """By page size; usage counts reservations, since the limit applies to those first."""
    sizes: Json = {}
    for file in cgroup.files():
        if file.startswith("hugetlb.") and file.endswith(".rsvd.current"):
            size = file.split(".")[1]
            failures = _table(cgroup, f"hugetlb.{size}.events").get("max", 0)
            sizes[size] = {"usage": _number(cgroup, file, 0), "failcnt": failures}
    return sizes


def _rdma(cgroup: Cgroup) -> Json:
    parts: Json = {}
    for name, file in (("limit", "rdma.max"), ("current", "rdma.current")):
        entries = [_rdma_entry(device, counts) for device, counts in _nested(cgroup, file)]
        if entries:
            parts[name] = entries
    return parts


def _rdma_entry(device: str, counts: dict[str, str]) -> Json:
    numbers = {
        f"{key}s": _NO_RDMA_LIMIT if text == "max" else int(text) for key, text in counts.items()
    }
    return {"device": device, **numbers}


def _misc(cgroup: Cgroup) -> Json:
    """By resource, such as sev: how much is in use, and how often the limit was reached."""
    failures = _table(cgroup, "misc.events")
    return {
        name: {"usage": used, "events": failures.get(f"{name}.max", 0)}
        for name, used in _table(cgroup, "misc.current").items()
    }


def _with_pressure(cgroup: Cgroup, file: str, part: Json) -> Json:
    """Add the pressure stall information (PSI), unless the kernel has it disabled."""
    psi = {
        kind: {key: float(value) if "." in value else int(value) for key, value in row.items()}
        for kind, row in _nested(cgroup, file)
    }
    return {**part, "psi": psi} if psi else part


# --- kinds of files ----------------------------------------------------------------------------


def _text(cgroup: Cgroup, file: str) -> str:
    """A file's content; empty if there is no such file, or PSI is off (EOPNOTSUPP)."""
    try:
        return cgroup.read(file)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
            return ""
        raise


def _number(cgroup: Cgroup, file: str, default: int) -> int:
    text = _text(cgroup, file).strip()
    return int(text) if text.isdecimal() else default


def _table(cgroup: Cgroup, file: str) -> dict[str, int]:
    return {key: int(value) for key, value in table(_text(cgroup, file)).items()}


def _nested(cgroup: Cgroup, file: str) -> list[tuple[str, dict[str, str]]]:
    """A nested keyed file: "NAME KEY=VALUE ..." on each line."""
    rows = []
    for line in _text(cgroup, file).splitlines():
        name, *words = line.split()
        rows.append((name, dict(word.split("=", 1) for word in words if "=" in word)))
    return rows
