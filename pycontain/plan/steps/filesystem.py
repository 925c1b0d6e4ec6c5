"""The steps of the child that build its root file system."""

from __future__ import annotations

from ...lean.record import Record
from .base import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..ids import Ids


class BindRoot(Step):
    """The rootfs becomes a mount of its own that can be pivoted to."""

    name = "root"
    path: str
    propagation: int
    recursive: bool

    def what(self) -> str:
        return f"bind {self.path} as the new root"


class MountStep(Step):
    """What the kinds of mount have in common."""

    target: str
    on: int = 0
    off: int = 0
    recursive_on: int = 0
    recursive_off: int = 0
    propagation: tuple[tuple[int, bool], ...] = ()  # (MS_*, recursive) in order
    ignored: tuple[str, ...] = ()  # options that mean nothing to this kind of mount

    def place(self) -> str:
        """Its JSON path, its source and its destination."""
        return f"{self.why}, on {self.target}"


class MountFilesystem(MountStep):
    """A new file system is created and attached."""

    name = "mount"
    kind: str
    source: str
    options: tuple[str, ...] = ()
    copy_up: bool = False
    readonly_later: bool = False

    def what(self) -> str:
        options = f" ({','.join(self.options)})" if self.options else ""
        return f"mount {self.kind}{options} on {self.target}"

    def place(self) -> str:
        return f"{self.why}, {self.source} on {self.target}"


class MountBind(MountStep):
    """A part of the host's tree is cloned and attached; on "/" it becomes the root."""

    name = "bind"
    source: str
    recursive: bool
    readonly_later: bool = False
    unlisted: int = 0  # attributes of the source to switch off, except those locked
    maps: str = ""  # "idmap", "ridmap" with its submounts, "" if ids are not mapped
    ids: Ids | None = None  # how they are; None as in the user namespace
    copies_link: bool = False  # a source that is a symlink is copied, not bound
    binds_link: bool = False  # a source that is a symlink is bound itself
    covers_link: bool = False  # a destination that is a symlink is mounted on itself

    def what(self) -> str:
        how = f" with ids mapped: {self.ids or 'as in the user namespace'}" if self.maps else ""
        return f"bind {self.source} on {self.target}{' with its submounts' * self.recursive}{how}"

    def place(self) -> str:
        return f"{self.why}, {self.source} on {self.target}"


class MountCgroup(MountStep):
    """Without a cgroup namespace, the container's own part of the host's tree is bound."""

    name = "bind cgroup"

    def what(self) -> str:
        return f"bind the container's cgroup on {self.target}"


class Remount(MountStep):
    """The attributes of an existing mount are changed."""

    name = "remount"
    options: tuple[str, ...] = ()

    def what(self) -> str:
        return f"remount {self.target}"


class DeviceNode(Record):
    """A device file to create; type is "c", "b" or "p", at its JSON path if it has one."""

    path: str
    type: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
    at: str = ""


class MakeDevices(Step):
    """The default devices and those of the configuration."""

    name = "devices"
    nodes: tuple[DeviceNode, ...]
    bound: bool = False  # the parent has created them

    def what(self) -> str:
        return ("bind " if self.bound else "create ") + ", ".join(node.path for node in self.nodes)


class LinkDevices(Step):
    """The links that programs expect in /dev."""

    name = "links"
    links: tuple[tuple[str, str], ...]  # (path, target)

    def what(self) -> str:
        return "link " + ", ".join(path for path, _ in self.links)


class MakePlaces(Step):
    """What later steps need in the root is created before any of it is read-only."""

    name = "places"
    directories: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def what(self) -> str:
        return f"create {', '.join((*self.directories, *self.files))} where missing"


class ChangeRoot(Step):
    """The rootfs becomes "/" and the host's tree is detached."""

    name = "pivot"
    pivot: bool
    propagation: int = 0  # MS_*, of the root mount alone

    def what(self) -> str:
        return "pivot_root and detach the old root" if self.pivot else "chroot to the moved root"


class MakeReadOnly(Step):
    """Mounts that had to stay writable so far become read-only."""

    name = "read-only"
    targets: tuple[str, ...]
    places: dict[str, str] = {}  # target -> which mount that is, for errors

    def what(self) -> str:
        return f"make {', '.join(self.targets)} read-only"


class ProtectPaths(Step):
    """Paths that become read-only."""

    name = "readonly paths"
    paths: tuple[str, ...]

    def what(self) -> str:
        return f"make {len(self.paths)} paths read-only"


class MaskPaths(Step):
    """Paths that become empty."""

    name = "masked paths"
    paths: tuple[str, ...]

    def what(self) -> str:
        return f"hide {len(self.paths)} paths"
