"""
Images and root file systems for users without root privileges: in a user namespace of their own.

The configuration names the namespace and its maps, so that `spec --rootfs` hides nothing. For an
image the process enters it before, since mounting its layers needs it; what runs then is what runs
for root. Source: user_namespaces(7); Documentation/filesystems/overlayfs.rst, Linux 5.11.
"""

from __future__ import annotations

from ..kernel import subids
from ..kernel.wait import FOREVER
from ..lean import jsontext
from ..runtime import host, rootless
from ..runtime.bundle import Bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.userns import Map

_SYS: dict[str, object] = {
    "destination": "/sys",
    "type": "none",
    "source": "/sys",
    "options": ["rbind", "nosuid", "noexec", "nodev", "ro"],
}


def adapted(config: dict[str, object]) -> dict[str, object]:
    """The configuration for this process: the same for root, with a user namespace for others."""
    if host.may_contain() and not host.entered:
        return config
    uids, gids = host.entered[0] if host.entered else _own()
    linux = config["linux"]
    assert isinstance(linux, dict)
    namespaces = linux["namespaces"]
    own_network = any(each["type"] == "network" for each in namespaces)
    linux["namespaces"] = [{"type": "user"}, *namespaces]
    linux["uidMappings"], linux["gidMappings"] = _mappings(uids), _mappings(gids)
    mounts = config["mounts"]
    assert isinstance(mounts, list)
    config["mounts"] = [_mount(each, gids, own_network=own_network) for each in mounts]
    process = config["process"]
    assert isinstance(process, dict)
    process["user"] = _user(process["user"], gids)
    return config


def enter(path: str, config: dict[str, object]) -> None:
    """Become root of the user namespace of such a configuration. Raises HostError, KernelError."""
    if not host.may_contain():
        rootless.entered(Bundle(path, text=jsontext.dumps(config)), FOREVER)


def _own() -> tuple[Map, Map]:
    return subids.own_map("uid_map"), subids.own_map("gid_map")


def _mappings(mapped: Map) -> list[dict[str, int]]:
    return [
        {"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in mapped
    ]


def _user(user: dict[str, object], gids: Map) -> dict[str, object]:
    """Without supplementary groups that are not mapped; none may be set where one id alone is."""
    listed = user.get("additionalGids", [])
    assert isinstance(listed, list)
    kept = [gid for gid in listed if _is_mapped(gid, gids)] if len(gids) > 1 else []
    rest = {key: value for key, value in user.items() if key != "additionalGids"}
    return {**rest, "additionalGids": kept} if kept else rest


def _mount(mount: dict[str, object], gids: Map, *, own_network: bool) -> dict[str, object]:
    """Without a group that is not mapped, and with the host's /sys beside the host's network."""
    if mount["type"] == "sysfs" and not own_network:
        return _SYS
    options = mount.get("options", [])
    assert isinstance(options, list)
    kept = [option for option in options if not _is_unmapped(option, gids)]
    return {**mount, "options": kept}


def _is_unmapped(option: str, gids: Map) -> bool:
    name, _, value = option.partition("=")
    return name == "gid" and value.isdigit() and not _is_mapped(int(value), gids)


def _is_mapped(number: int, mapped: Map) -> bool:
    return any(first <= number < first + size for first, _, size in mapped)
