"""The parent's steps for user namespaces and id-mapped mounts, in the order of `steps.mapped`."""

from __future__ import annotations

import _stat as stat
import errno

from ..cgroup.tree import Cgroup
from ..errors import KernelError, PycontainError, StateError, StepError
from ..init.process import give_streams as give
from ..init.process import raise_limit
from ..init.rootfs import open_host
from ..kernel import calls, mapping
from ..kernel import const as c
from ..kernel.files import read_bytes
from ..kernel.mounts import Tree, mounted
from ..lean import os
from ..plan import steps
from ..plan.ids import Ids
from ..plan.steps import mapped
from ..plan.walk import parent_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan.steps import MountStep
    from .launch import ContainerLaunch, Launch

_KINDS = {"c": stat.S_IFCHR, "b": stat.S_IFBLK}
_PLACES = ("linux.uidMappings", "linux.gidMappings")


@parent_step(mapped.MakeUserNamespace)
def make_user_namespace(step: mapped.MakeUserNamespace, launch: Launch) -> None:
    """Create the user namespace; it exists as long as a descriptor of it, or a process in it."""
    ids = launch.ids = step.ids
    launch.namespaces[c.CLONE_NEWUSER] = mapping.user_namespace(ids.uids, ids.gids, _PLACES)


@parent_step(mapped.ReadMappings)
def read_mappings(step: mapped.ReadMappings, launch: Launch) -> None:
    """Read the mappings, of the process whose namespaces are joined or of the one to join."""
    if launch.target >= 0:
        found = mapping.mappings_of(f"/proc/{_pid_of(launch.target)}")
    else:
        namespace = launch.namespaces[c.CLONE_NEWUSER]
        if mapping.is_own(namespace):
            raise StateError(
                "is the runtime's own user namespace, which no process can enter again",
                at="linux.namespaces",
                remedy="leave it out of the list",
            )
        found = mapping.mappings(namespace)
    launch.ids = Ids(uids=found[0], gids=found[1])
    if step.wanted is not None and step.wanted != launch.ids:
        raise StateError(
            f"differ from those of the user namespace, which maps {launch.ids}",
            at=" and ".join(_PLACES),
            remedy="leave them out, or join another one",
        )


def _pid_of(pidfd: int) -> int:
    """The process behind a pidfd; -1 if it has ended. pidfd_open(2)."""
    lines = read_bytes(f"/proc/self/fdinfo/{pidfd}").splitlines()
    return next(int(line[4:]) for line in lines if line.startswith(b"Pid:"))


@parent_step(mapped.PrepareMounts)
def prepare_mounts(step: mapped.PrepareMounts, launch: Launch) -> None:
    """Clone what will be bound, detached: it becomes reachable by what the child attaches."""
    if step.rootfs:
        tree = Tree.clone(open_host(step.rootfs), recursive=True, at=step.rootfs)
        tree.propagate(step.propagation, recursive=True)
        launch.trees["root.path"] = tree.fd
    for mount in step.mounts:
        try:
            launch.trees[mount.why] = _source(mount, launch, step.propagation).fd
        except PycontainError as error:
            raise error.in_step(mount.name, mount.place()) from None


def _source(step: MountStep, launch: Launch, propagation: int) -> Tree:
    """With all its attributes, which a process in a user namespace cannot take back."""
    if isinstance(step, steps.MountBind):
        path, recursive = step.source, step.recursive
    else:
        assert isinstance(launch.cgroup, Cgroup), "only a container with one has this mount"
        path, recursive = launch.cgroup.directory, False
    source = open_host(path)
    tree = Tree.clone(source, recursive=recursive, at=path)
    tree.propagate(propagation, recursive=True)
    if isinstance(step, steps.MountBind) and step.maps:
        _map_ids(tree, source, step, launch)
    os.close(source)
    tree.set(step.on, step.off)
    tree.set(step.recursive_on, step.recursive_off, recursive=True)
    return tree


def _map_ids(tree: Tree, source: int, step: steps.MountBind, launch: Launch) -> None:
    """Map the ids of a mount as it says itself, or as the container's user namespace does."""
    if step.ids is None:
        namespace = launch.namespaces[c.CLONE_NEWUSER]
    else:
        places = f"{step.why}.uidMappings", f"{step.why}.gidMappings"
        namespace = mapping.user_namespace(step.ids.uids, step.ids.gids, places)
    try:
        mapping.map_ids(tree.fd, namespace, recursive=step.maps == "ridmap")
    except KernelError as error:
        if error.errno != errno.EINVAL:
            raise
        raise StepError(
            f"is on {_type_of(source)}, which does not support id-mapped mounts",
            at=step.source,
            remedy="leave the mapping out, or use another file system",
            errno=errno.EINVAL,
        ) from None
    finally:
        if step.ids is not None:
            os.close(namespace)


def _type_of(source: int) -> str:
    """The type of the file system that a file of the host is on."""
    number = calls.mount_id(source)
    kinds = (kind for found, _, kind, _ in mounted() if found == number)
    return next(kinds, "a file system")


@parent_step(mapped.PrepareDevices)
def prepare_devices(step: mapped.PrepareDevices, launch: ContainerLaunch) -> None:
    """Create and clone each: owner and mode are the container's, not those of the host's file."""
    ids = launch.ids
    assert ids is not None, "a step before this one has them"
    old = os.umask(0)
    for index, node in enumerate(step.nodes):
        place = launch.directory.device_file(index)
        try:
            os.mknod(place, _KINDS[node.type] | node.mode, os.makedev(node.major, node.minor))
            os.chown(place, ids.uid(node.uid), ids.gid(node.gid))
        except OSError as error:
            raise KernelError.of("mknod", error.errno or 0, node.path) from None
        launch.trees[node.path] = _device(place)
    os.umask(old)


@parent_step(mapped.RemoveDevices)
def remove_devices(step: mapped.RemoveDevices, launch: ContainerLaunch) -> None:
    """Remove the names; the files remain, as what is mounted."""
    for index in range(step.count):
        os.unlink(launch.directory.device_file(index))


def _device(place: str) -> int:
    """A detached mount of a device file."""
    file = open_host(place)
    tree = Tree.clone(file, at=place)
    os.close(file)
    tree.propagate(c.MS_PRIVATE)
    tree.set(c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NOEXEC, c.MOUNT_ATTR_NODEV | c.MOUNT_ATTR_RDONLY)
    return tree.fd


@parent_step(mapped.GiveStreams)
def give_streams(step: mapped.GiveStreams, launch: Launch) -> None:
    """As the child does outside of a user namespace: `init.process.give_streams`."""
    give(launch.host_uid(step.uid), step.takes_files)


@parent_step(mapped.RaiseRlimitsOutside)
def raise_rlimits(step: mapped.RaiseRlimitsOutside, launch: Launch) -> None:
    """Raise the child's hard limits, where they are lower."""
    for name, number, hard, at in step.limits:
        raise_limit(launch.child.pid, (name, number, hard, at))
