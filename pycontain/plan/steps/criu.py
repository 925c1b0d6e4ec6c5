"""The steps of restoring a container from images, both of the parent. criu(8)."""

from __future__ import annotations

from .base import ParentStep


class SpawnCriu(ParentStep):
    """
    The process that becomes CRIU exists, and waits until it is in the cgroup.

    What it restores are its children: they are born there, too.

    command           criu and its arguments, except those that name a file or a descriptor
    rootfs            the path of the root file system
    streams           what criu calls the standard streams, "" for one that it has saved
    network           the path of the network namespace to join, "" for none
    cgroup_namespace  whether the container has a cgroup namespace of its own
    """

    name = "spawn"
    command: tuple[str, ...]
    rootfs: str
    streams: tuple[str, ...]
    network: str
    cgroup_namespace: bool

    def what(self) -> str:
        return "fork the process that will execute criu, in the cgroup"


class RestoreProcesses(ParentStep):
    """CRIU makes namespaces, mounts and processes again, writes its log, and exits."""

    name = "restore"
    log: str

    def what(self) -> str:
        return "execute criu, and wait until it has restored the processes"
