"""
The parent's steps for user namespaces and id-mapped mounts, which few plans have.

A child in a user namespace cannot create devices or reach all files: the parent prepares those.
"""

from __future__ import annotations

from .base import ParentStep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..ids import Ids
    from .filesystem import DeviceNode, MountStep


class MakeUserNamespace(ParentStep):
    """The namespace exists, with its mappings, before any process of the container."""

    name = "user namespace"
    ids: Ids

    def what(self) -> str:
        return f"create a user namespace that maps {self.ids}"


class ReadMappings(ParentStep):
    """
    The mappings of an existing user namespace are read.

    wanted  the mappings that it must have, None for any
    """

    name = "mappings"
    wanted: Ids | None = None

    def what(self) -> str:
        more = f", which must be {self.wanted}" if self.wanted else ""
        return f"read the mappings of the user namespace{more}"


class PrepareMounts(ParentStep):
    """
    The sources are cloned as the host sees them, and their ids are mapped.

    The container's root may not be permitted to reach them.

    rootfs       the path of the rootfs, "" if it needs no preparation
    propagation  MS_SLAVE or MS_PRIVATE
    """

    name = "sources"
    rootfs: str
    propagation: int
    mounts: tuple[MountStep, ...]

    def what(self) -> str:
        paths = (self.rootfs, *(step.target for step in self.mounts))
        return f"clone what is bound on {', '.join(path for path in paths if path)}"


class PrepareDevices(ParentStep):
    """
    In a user namespace mknod(2) is not permitted: device files are created here, and bound there.

    They are in the state directory until then: a file without a name cannot be mounted.
    """

    name = "device files"
    nodes: tuple[DeviceNode, ...]

    def what(self) -> str:
        return "create, on the host, " + ", ".join(node.path for node in self.nodes)


class TakeDevices(ParentStep):
    """The runtime is itself in a user namespace: the host's own device files are bound."""

    name = "host devices"
    nodes: tuple[DeviceNode, ...]

    def what(self) -> str:
        return "take the host's " + ", ".join(node.path for node in self.nodes)


class RemoveDevices(ParentStep):
    """Their files are no longer needed: the container has mounted them."""

    name = "device names"
    count: int

    def what(self) -> str:
        return f"remove {self.count} device files from the state directory"


class GiveStreams(ParentStep):
    """The child may not change the owner of its streams, which belong to the caller."""

    name = "streams"
    uid: int  # of the container
    takes_files: bool

    def what(self) -> str:
        return f"give pipes and sockets among the standard streams to uid {self.uid}"


class SetIoPriorityOutside(ParentStep):
    """Only CAP_SYS_NICE of the host allows the realtime class: ioprio_set(2)."""

    name = "io priority"
    priority: int

    def what(self) -> str:
        return f"set I/O priority {self.priority:#x}"


class RaiseRlimitsOutside(ParentStep):
    """Only CAP_SYS_RESOURCE of the host raises hard limits: setrlimit(2)."""

    name = "hard limits"
    limits: tuple[tuple[str, int, int, str], ...]  # (name, number, hard, JSON path)

    def what(self) -> str:
        limits = ", ".join(f"{name} to {hard}" for name, _, hard, _ in self.limits)
        return f"raise where lower: {limits}"
