"""
Containers of a user without root privileges: this process becomes root of a user namespace.

It enters the user namespace that the container is to have, and a new mount namespace, before
anything else happens. From then on it has root's rights there: the rest of the runtime works as for
root, and the configuration no longer contains a user namespace. What is still reserved to the
host's root, such as devices and cgroups, depends on `Facts.nested`. user_namespaces(7).
"""

from __future__ import annotations

from ..errors import HostError, KernelError, SpecError
from ..kernel import calls, subids, userns
from ..kernel import const as c
from ..kernel.mounts import Tree
from ..lean import jsontext, os
from ..plan.ids import ids_of
from ..spec.parse import document
from . import host
from .bundle import Bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.userns import Map
    from ..kernel.wait import Until
    from ..spec.records import Spec

_FIELDS = ("linux.uidMappings", "linux.gidMappings")


def entered(bundle: Bundle, until: Until) -> Bundle:
    """
    The bundle without its user namespace, which this process has entered.

    If the configuration has none, it is one with the mappings of `subids.own_map`. Raises SpecError
    and HostError.
    """
    maps = _maps(bundle.spec)
    if not host.entered:
        _create(bundle.spec, maps, until)
        host.entered.append(maps)
    elif maps not in host.entered:
        raise HostError(
            "cannot be mapped: this process is root of another user namespace already",
            at="linux.uidMappings",
            remedy="use the same mappings for all containers of a process",
        )
    return Bundle(bundle.path, text=_without_user_namespace(bundle.text))


def _create(spec: Spec, maps: tuple[Map, Map], until: Until) -> None:
    """Enter a new or existing user namespace, and a new mount namespace."""
    namespace = _namespace(spec, maps, until)
    try:
        _enter(namespace)
    finally:
        os.close(namespace)
    calls.unshare(c.CLONE_NEWNS)
    slash = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    Tree(slash).propagate(c.MS_SLAVE, recursive=True)
    os.close(slash)


def join(pid: int) -> None:
    """Enter the user namespace of a container's process, unless we are in it. Raises HostError."""
    path = f"/proc/{pid}/ns/user"
    try:
        namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError.of("open", error.errno or 0, path) from None
    try:
        if not userns.is_own(namespace):
            _enter(namespace)
    finally:
        os.close(namespace)
    if not host.may_contain():
        raise HostError.needs_root("entering a container")


def _maps(spec: Spec) -> tuple[Map, Map]:
    """The mappings of the configuration or, if it has none, of all ids that the user has."""
    linux = spec.linux
    if linux is None or not linux.uidMappings:
        if host.entered:
            return host.entered[0]
        return subids.own_map("uid_map"), subids.own_map("gid_map")
    ids = ids_of(linux.uidMappings, linux.gidMappings)
    return ids.uids, ids.gids


def _namespace(spec: Spec, maps: tuple[Map, Map], until: Until) -> int:
    """A descriptor of the user namespace that the container is to have."""
    listed = spec.linux.namespaces if spec.linux else ()
    path = next((each.path for each in listed if each.type == "user"), None)
    if not path:
        _require_own_ids(maps)
        return userns.user_namespace(*maps, _FIELDS, until, write=subids.write_map)
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError.of("open", error.errno or 0, path) from None


def _require_own_ids(maps: tuple[Map, Map]) -> None:
    """Raises SpecError unless this user is mapped: its files would have no owner inside."""
    for at, mapped, own in zip(_FIELDS, maps, (os.getuid(), os.getgid()), strict=True):
        if not any(first <= own < first + size for _, first, size in mapped):
            raise SpecError(
                f"does not map {own}, which is this user's",
                at=at,
                remedy="map it, as `pycontain spec --rootless` does",
            )


def _enter(namespace: int) -> None:
    try:
        calls.setns(namespace, c.CLONE_NEWUSER)
    except KernelError as error:
        error.fault.remedy = "only its creator can enter a user namespace without root privileges"
        raise
    calls.set_identity(0, 0, None)
    calls.prctl(c.PR_SET_DUMPABLE, 1, name="PR_SET_DUMPABLE")  # or /proc/self were the host root's


def _without_user_namespace(text: str) -> str:
    config = document(text)
    linux = config.get("linux")
    if isinstance(linux, dict):
        for key in ("uidMappings", "gidMappings"):
            linux.pop(key, None)
        listed = linux.get("namespaces") or []
        linux["namespaces"] = [each for each in listed if each.get("type") != "user"]
    return jsontext.dumps(config)
