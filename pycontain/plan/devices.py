"""Device files and links of /dev. config-linux.md, Devices and Default Devices."""

from __future__ import annotations

from ..errors import SpecError
from . import steps
from .mounts import plain
from .steps import DeviceNode

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


def device_steps(devices: tuple[Device, ...], mounts: list[steps.Step]) -> list[steps.Step]:
    """The steps that create devices and links; none below /dev if the host's /dev is mounted."""
    given = {node.path: node for node in map(_node, devices)}
    if _is_of_the_host(mounts):
        others = tuple(node for path, node in given.items() if not path.startswith("/dev/"))
        return [steps.MakeDevices(nodes=others, why="linux.devices")] if others else []
    wanted = {node.path: node for node in DEFAULT_DEVICES} | given
    return [
        steps.MakeDevices(nodes=tuple(wanted.values()), why="linux.devices and the defaults"),
        steps.LinkDevices(links=DEFAULT_LINKS, why="runtime-linux.md"),
    ]


def refuse_devices(devices: tuple[Device, ...]) -> None:
    """Raises SpecError for the first device: without a mount namespace, /dev is the host's."""
    for device in devices:
        raise SpecError(
            "would be created on the host without a mount namespace",
            at=device.at,
            value=device.path,
            remedy='add {"type": "mount"} to linux.namespaces',
        )


def _is_of_the_host(mounts: list[steps.Step]) -> bool:
    """Whether the last mount on /dev is a bind mount or devtmpfs, of which all see the same one."""
    bound = False
    for step in mounts:
        if isinstance(step, steps.MountBind) and step.target == "/dev":
            bound = True
        elif isinstance(step, steps.MountFilesystem) and step.target == "/dev":
            bound = step.kind == "devtmpfs"
    return bound


def _node(device: Device) -> DeviceNode:
    return DeviceNode(
        path=plain(device.path),
        type="c" if device.type == "u" else device.type,
        major=device.major or 0,
        minor=device.minor or 0,
        mode=0o666 if device.fileMode is None else device.fileMode & 0o7777,
        uid=device.uid or 0,
        gid=device.gid or 0,
    )
