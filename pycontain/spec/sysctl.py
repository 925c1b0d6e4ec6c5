"""
Sysctls: their names, and which namespace makes each of them the container's own.

/proc/sys is namespaced only in part; the rest would change the host. Source: config-linux.md,
Sysctl; namespaces(7), ipc_namespaces(7), network_namespaces(7), user_namespaces(7).
"""

from __future__ import annotations

from .problem import keyed, problem, shown, under

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..errors import SpecError
    from .problem import Problems
    from .records import Linux, Spec

_IPC = (
    "kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem",
    "kernel/shmall", "kernel/shmmax", "kernel/shmmni", "kernel/shm_rmid_forced",
)  # fmt: skip
_UTS = {"kernel/hostname": "hostname", "kernel/domainname": "domainname"}  # each a property, too
_SWAP_SEPARATORS = str.maketrans("./", "/.")


def path(name: str) -> str:
    """
    The file below /proc/sys that a sysctl's name refers to.

    The first separator decides, as sysctl(8) and sysctl.d(5) say: with a dot first, dots separate
    and slashes stand for dots (net.ipv4.conf.eth0/100.forwarding); with a slash first it is a path.
    """
    first = next((character for character in name if character in "./"), "/")
    return name.translate(_SWAP_SEPARATORS) if first == "." else name


def namespace(path: str) -> str:
    """The type of the namespace that owns this file below /proc/sys, empty for the host's."""
    if path in _IPC or path.startswith("fs/mqueue/"):
        return "ipc"
    if path.startswith("net/"):
        return "network"
    if path.startswith("user/"):
        return "user"
    return "uts" if path in _UTS else ""


def problems(spec: Spec, linux: Linux) -> Problems:
    """
    The sysctls that would affect the host, or that contradict another value.

    A namespace that is joined by path may still be the host's: that is checked when it is opened.
    """
    listed = {namespace.type for namespace in linux.namespaces}
    first: dict[str, tuple[str, str]] = {}
    for name, value in linux.sysctl.items():
        at, file = keyed(under(linux, "sysctl"), name), path(name)
        yield from _problems(at, file, listed)
        if file in _UTS:
            yield from _contradiction(spec, at, _UTS[file], value)
        other, others = first.setdefault(file, (at, value))
        if value != others:
            yield _contradicts(at, value, other, others)


def _problems(at: str, path: str, listed: set[str]) -> Problems:
    owner = namespace(path)
    # net/../kernel/x begins with "net/" but does not belong to the network namespace
    if any(part in ("", ".", "..") for part in path.split("/")):
        yield problem(at, "is not the name of a sysctl", "write it as in net.ipv4.ip_forward")
    elif not owner:
        remedy = "set it on the host, or remove it"
        yield problem(at, "belongs to the host, not to a namespace", remedy)
    elif owner not in listed:
        remedy = f'add {{"type": "{owner}"}} to linux.namespaces'
        yield problem(at, f"would change the host without a {owner} namespace", remedy)


def _contradiction(spec: Spec, at: str, key: str, value: str) -> Problems:
    """The problem of a name that is set in two places; runc refuses kernel.hostname altogether."""
    name = getattr(spec, key)
    if name and name != value:
        yield _contradicts(at, value, under(spec, key), name)
    elif not name and key == "hostname":
        yield problem(at, "has a property of its own", 'set "hostname" instead')


def _contradicts(at: str, value: str, other: str, others: str) -> SpecError:
    return problem(at, f"contradicts {other} = {shown(others)}", "keep one of them", value)
