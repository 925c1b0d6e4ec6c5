"""Is the Linux part of a configuration valid? Source: config-linux.md."""

from __future__ import annotations

from .problem import absolute, between, each, keyed, problem, under

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .problem import Located, Problems
    from .records import Device, Linux, Spec

_CLOCKS = ("monotonic", "boottime")  # time_namespaces(7)
_NUMBERS = {"major": 2**12 - 1, "minor": 2**20 - 1}  # 12 and 20 bits: makedev(3)


def problems(linux: Linux) -> Problems:
    """Everything that is wrong with the Linux part on its own."""
    if linux.intelRdt is not None:
        from . import rdt_rules

        yield from rdt_rules.problems(linux.intelRdt)
    yield from _namespaces(linux)
    yield from _time_offsets(linux)
    yield from _devices(linux)
    yield from _cgroups_path(linux)
    if linux.resources is not None:
        from . import resource_rules

        yield from resource_rules.problems(linux.resources)
    if linux.memoryPolicy is not None:
        from . import memory_rules

        yield from memory_rules.problems(linux.memoryPolicy)
    if linux.netDevices:
        from . import netdevice_rules

        yield from netdevice_rules.problems(linux)
    if linux.seccomp is not None:
        from . import seccomp_rules

        yield from seccomp_rules.problems(linux.seccomp)
    for key in ("maskedPaths", "readonlyPaths"):
        for at, path in each(linux, key):
            yield from absolute(at, path)
    if linux.personality is not None:
        for at, flag in each(linux.personality, "flags"):
            yield problem(at, "is unknown: the specification defines no flags", "remove it", flag)


def missing_namespaces(spec: Spec, linux: Linux) -> Problems:
    """
    The properties that would change the host because their namespace is not listed.

    Masked and read-only paths are checked by the child, since those that do not exist are ignored.
    """
    listed = {namespace.type for namespace in linux.namespaces}
    needs: tuple[tuple[Located | None, str, str], ...] = (
        (spec, "hostname", "uts"),
        (spec, "domainname", "uts"),
        (spec, "mounts", "mount"),
        (spec.root, "readonly", "mount"),
        (linux, "rootfsPropagation", "mount"),
        (linux, "netDevices", "network"),
    )
    for record, key, kind in needs:
        if record is not None and getattr(record, key) and kind not in listed:
            why = f"would change the host without a {kind} namespace"
            remedy = f'add {{"type": "{kind}"}} to linux.namespaces'
            value = [mount.destination for mount in spec.mounts] if key == "mounts" else None
            yield problem(under(record, key), why, remedy, value)


def _namespaces(linux: Linux) -> Problems:
    first: dict[str, str] = {}
    for namespace in linux.namespaces:
        kind, at = namespace.type, under(namespace, "type")
        if kind in first:
            yield problem(at, f"is the same as that of {first[kind]}", "keep one of them", kind)
        first.setdefault(kind, namespace.at)
        if namespace.path:
            yield from absolute(under(namespace, "path"), namespace.path)


def _time_offsets(linux: Linux) -> Problems:
    at = under(linux, "timeOffsets")
    new = any(namespace.type == "time" and not namespace.path for namespace in linux.namespaces)
    if linux.timeOffsets and not new:
        remedy = 'add {"type": "time"} to linux.namespaces, without a path'
        yield problem(at, "can only be set in a new time namespace", remedy)
    for clock, offset in linux.timeOffsets.items():
        if clock not in _CLOCKS:
            remedy = f"use {' or '.join(_CLOCKS)}"
            yield problem(
                keyed(at, clock), "is not a clock that a time namespace can offset", remedy
            )
        yield from between(offset, "nanosecs", 0, 999_999_999)


def _devices(linux: Linux) -> Problems:
    first: dict[str, Device] = {}
    for device in linux.devices:
        yield from absolute(under(device, "path"), device.path)
        yield from _device_number(device)
        # mode_t; some engines leave the file type in it
        yield from between(device, "fileMode", 0, 0o177777)
        earlier = first.setdefault(device.path, device)
        if _node(earlier) != _node(device):
            why = f"is a different device in {earlier.at}"
            yield problem(under(device, "path"), why, "keep one of them", device.path)


def _device_number(device: Device) -> Problems:
    for key, largest in _NUMBERS.items():
        if device.type != "p" and getattr(device, key) is None:
            yield problem(under(device, key), "is required but missing", "add it: ls -l shows it")
        yield from between(device, key, 0, largest)


def _node(device: Device) -> tuple[object, ...]:
    """What mknod(1) creates for a device: "u" is another name for "c"."""
    if device.type == "p":
        return ("p",)
    return ("b" if device.type == "b" else "c", device.major, device.minor)


def _cgroups_path(linux: Linux) -> Problems:
    path = linux.cgroupsPath or ""
    if ".." in path.split("/"):
        remedy = "write the path without .."
        yield problem(under(linux, "cgroupsPath"), "contains ..", remedy, path)
