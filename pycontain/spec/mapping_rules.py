"""
Are user namespaces and id-mapped mounts valid? Loaded only for a configuration that has one.

Source: config-linux.md, User namespace mappings; config.md, Mounts; user_namespaces(7).
"""

from __future__ import annotations

from .problem import each, problem, under

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .problem import Located, Problems
    from .rare_records import IdMapping
    from .records import Linux, Mount, Namespace, Process, Spec

_KEYS = ("uidMappings", "gidMappings")
_MOST = 340  # lines of a map (Linux 4.15): user_namespaces(7)
_LAST = 2**32 - 2  # the highest id: -1 means "none"
_OPTIONS = ("idmap", "ridmap")


def problems(spec: Spec, linux: Linux) -> Problems:
    """Everything that is wrong with the user namespace and with id-mapped mounts."""
    yield from _of_namespace(linux)
    for key in _KEYS:
        yield from _mappings(linux, key)
    if spec.process is not None:
        yield from of_process(spec.process, linux)
    for device in linux.devices:
        yield from _is_mapped(device, "uid", device.uid, linux.uidMappings)
        yield from _is_mapped(device, "gid", device.gid, linux.gidMappings)
    for mount in spec.mounts:
        yield from _mount(mount, linux)


def of_process(process: Process, linux: Linux) -> Problems:
    """The ids of a process that are not mapped; without mappings, nothing can be said."""
    user = process.user
    if user is None:
        return
    yield from _is_mapped(user, "uid", user.uid, linux.uidMappings)
    yield from _is_mapped(user, "gid", user.gid, linux.gidMappings)
    for index, gid in enumerate(user.additionalGids):
        yield from _is_mapped(user, f"additionalGids[{index}]", gid, linux.gidMappings)


def _of_namespace(linux: Linux) -> Problems:
    listed = {namespace.type: namespace for namespace in linux.namespaces}
    yield from _given_mappings(linux, listed.get("user"))
    if "user" in listed:
        yield from _beside_user(listed)


def _given_mappings(linux: Linux, user: Namespace | None) -> Problems:
    """Mappings must be given for a new user namespace, and only for a user namespace."""
    for key in _KEYS:
        at, mappings = under(linux, key), getattr(linux, key)
        if mappings and user is None:
            remedy = 'add {"type": "user"} to linux.namespaces'
            yield problem(at, "has no meaning without a user namespace", remedy)
        elif not mappings and user is not None and (not user.path or _has_mappings(linux)):
            remedy = 'add it, as in [{"containerID": 0, "hostID": 100000, "size": 65536}]'
            yield problem(at, "is required by the user namespace, but missing", remedy)
        elif mappings and not _maps(mappings, 0):
            yield problem(at, "does not map id 0, the container's root", "add a mapping of id 0")


def _beside_user(listed: dict[str, Namespace]) -> Problems:
    """What a user namespace requires of the other namespaces."""
    user = listed["user"]
    if "mount" not in listed:
        remedy = 'add {"type": "mount"} to linux.namespaces'
        yield problem(under(user, "type"), "also needs a mount namespace", remedy, "user")
    for kind in ("pid", "mount") if not user.path else ():
        if kind in listed and listed[kind].path:
            why = "belongs to another user namespace than the new one, which cannot enter it"
            remedy = "join the user namespace that it belongs to, by its path"
            yield problem(under(listed[kind], "path"), why, remedy, listed[kind].path)


def _has_mappings(record: Linux | Mount) -> bool:
    return bool(record.uidMappings or record.gidMappings)


def _mappings(record: Linux | Mount, key: str) -> Problems:
    """The problems of a list of mappings: no id may appear twice on the same side."""
    mappings: tuple[IdMapping, ...] = getattr(record, key)
    if len(mappings) > _MOST:
        yield problem(under(record, key), f"has more than {_MOST} mappings", "join adjacent ones")
    for index, mapping in enumerate(mappings):
        if mapping.size == 0:
            yield problem(under(mapping, "size"), "is 0", "set it to the number of ids", 0)
        for side in ("containerID", "hostID"):
            first = getattr(mapping, side)
            if first + mapping.size - 1 > _LAST:
                why = f"leads beyond the last id, {_LAST}, with size {mapping.size}"
                yield problem(under(mapping, side), why, "reduce the size", first)
            for other in mappings[:index]:
                if _overlap(first, mapping.size, getattr(other, side), other.size):
                    why = f"overlaps with {under(other, side)}"
                    yield problem(under(mapping, side), why, "map each id once", first)


def _overlap(first: int, size: int, other: int, others: int) -> bool:
    return first < other + others and other < first + size


def _maps(mappings: tuple[IdMapping, ...], id: int) -> bool:
    return any(each.containerID <= id < each.containerID + each.size for each in mappings)


def _is_mapped(
    record: Located, key: str, id: int | None, mappings: tuple[IdMapping, ...]
) -> Problems:
    if mappings and not _maps(mappings, id or 0):
        kind = "gidMappings" if "gid" in key.lower() else "uidMappings"
        remedy = f"use an id that linux.{kind} maps, or add a mapping"
        yield problem(under(record, key), "is not mapped into the user namespace", remedy, id or 0)


# --- mounts --------------------------------------------------------------------------------------


def _maps_ids(mount: Mount) -> bool:
    return _has_mappings(mount) or any(
        option.partition("=")[0] in _OPTIONS for option in mount.options
    )


def _mount(mount: Mount, linux: Linux) -> Problems:
    if not {"bind", "rbind"} & set(mount.options):
        yield from _owners(mount, linux)
    if not _maps_ids(mount):
        return
    for at, option in each(mount, "options"):
        if option.startswith(tuple(f"{name}=" for name in _OPTIONS)):
            remedy = "use uidMappings and gidMappings of the mount"
            yield problem(at, "has a value, which the specification does not know", remedy, option)
    if not {"bind", "rbind"} & set(mount.options) or "remount" in mount.options:
        remedy = 'add the option "bind", or leave the mappings out'
        yield problem(mount.at, "maps ids, which only a bind mount can", remedy)
    for key in _KEYS:
        yield from _mappings(mount, key)
        if _has_mappings(mount) and not getattr(mount, key):
            why = "is missing: a mount maps both uids and gids, or neither"
            yield problem(under(mount, key), why, "add it")
    if not _has_mappings(mount) and all(entry.type != "user" for entry in linux.namespaces):
        remedy = "add uidMappings and gidMappings to the mount, or a user namespace"
        yield problem(mount.at, "requests an id-mapped mount, but has no mappings", remedy)


def _owners(mount: Mount, linux: Linux) -> Problems:
    """The owners that a new file system is given, such as gid=5 of devpts."""
    for at, option in each(mount, "options"):
        for part in option.split(","):
            key, _, value = part.partition("=")
            mappings = {"uid": linux.uidMappings, "gid": linux.gidMappings}.get(key, ())
            is_id = value.isascii() and value.isdecimal()
            if mappings and is_id and not _maps(mappings, int(value)):
                remedy = f"add {value} to linux.{key}Mappings, or leave the option out"
                yield problem(at, "is not mapped into the user namespace", remedy, option)
