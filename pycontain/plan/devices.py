"""Device files and links of /dev. config-linux.md, Devices and Default Devices."""

from __future__ import annotations

from . import steps
from .mounts import plain
from .steps.filesystem import DeviceNode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..spec.records import Device

DEFAULT_DEVICES = (
    DeviceNode(path="/dev/null", type="c", major=1, minor=3),
    DeviceNode(path="/dev/zero", type="c", major=1, minor=5),
    DeviceNode(path="/dev/full", type="c", major=1, minor=7),
    DeviceNode(path="/dev/random", type="c", major=1, minor=8),
    DeviceNode(path="/dev/urandom", type="c", major=1, minor=9),
    DeviceNode(path="/dev/tty", type="c", major=5, minor=0),
)

# runtime-linux.md, Dev symbolic links; /dev/ptmx is that of the devpts mount
DEFAULT_LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
)


def device_steps(
    devices: tuple[Device, ...], mounts: list[steps.Step], *, bound: bool
) -> list[steps.Step]:
    """
    The steps that create devices and links; none below /dev if the host's /dev is mounted.

    bound: the parent creates the devices, and the child binds them.
    """
    configured = {node.path: node for node in map(_node, devices)}
    if _hosts_dev(mounts) is not None:
        others = tuple(node for node in configured.values() if not _is_in_dev(node))
        why = "linux.devices"
        return [steps.MakeDevices(nodes=others, bound=bound, why=why)] if others else []
    all_nodes = {node.path: node for node in DEFAULT_DEVICES} | configured
    nodes, why = tuple(all_nodes.values()), "linux.devices and the defaults"
    return [
        steps.MakeDevices(nodes=nodes, bound=bound, why=why),
        steps.LinkDevices(links=DEFAULT_LINKS, why="runtime-linux.md"),
    ]


def bound_nodes(planned: list[steps.Step]) -> tuple[DeviceNode, ...]:
    """The devices that the parent creates for the child to bind: all but FIFOs."""
    return tuple(
        node
        for step in planned
        if isinstance(step, steps.MakeDevices) and step.bound
        for node in step.nodes
        if node.type != "p"
    )


def warnings(devices: tuple[Device, ...], mounts: list[steps.Step]) -> list[str]:
    """The names that are left out because the host's /dev is mounted."""
    dev = _hosts_dev(mounts)
    if dev is None:
        return []
    left_out = [node for node in map(_node, devices) if _is_in_dev(node)]
    names = dict.fromkeys(
        (*(node.path for node in DEFAULT_DEVICES), *(path for path, _ in DEFAULT_LINKS))
    )
    why = f"{dev.why} makes /dev the host's, where nothing is created"
    return [
        *(f"{node.at}: {node.path} is left out: {why}" for node in left_out),
        f"{', '.join(names)} are left out unless they exist: {why}",
    ]


def _hosts_dev(mounts: list[steps.Step]) -> steps.Step | None:
    """The last mount on /dev, if what it shows is shared with the host: a bind or devtmpfs."""
    mount: steps.Step | None = None
    for step in mounts:
        if isinstance(step, steps.MountBind) and step.target in ("/dev", "/"):
            mount = step if step.target == "/dev" else None  # the /dev of a new root
        elif isinstance(step, steps.MountFilesystem) and step.target == "/dev":
            mount = step if step.kind == "devtmpfs" else None
    return mount


def _is_in_dev(node: DeviceNode) -> bool:
    return node.path.startswith("/dev/")


def _node(device: Device) -> DeviceNode:
    return DeviceNode(
        path=plain(device.path),
        type="c" if device.type == "u" else device.type,
        major=device.major or 0,
        minor=device.minor or 0,
        mode=0o666 if device.fileMode is None else device.fileMode & 0o7777,
        uid=device.uid or 0,
        gid=device.gid or 0,
        at=device.at,
    )
