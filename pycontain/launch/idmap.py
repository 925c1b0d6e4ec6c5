"""The parent's steps for user namespaces and id-mapped mounts, in the order of `steps.idmap`."""

from __future__ import annotations

import _stat as stat
import errno

from ..errors import KernelError, PycontainError, StateError, StepError
from ..init.process import give_streams as give
from ..init.process import raise_limit
from ..init.rootfs import open_host, open_source, set_attributes
from ..kernel import calls, userns
from ..kernel import const as c
from ..kernel.files import read_bytes
from ..kernel.mounts import Tree, mounted
from ..lean import os
from ..plan import steps
from ..plan.ids import Ids
from ..plan.steps import idmap
from ..plan.walk import parent_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan.steps import MountStep
    from .launch import ContainerLaunch, Launch

_KINDS = {"c": stat.S_IFCHR, "b": stat.S_IFBLK}
_PLACES = ("linux.uidMappings", "linux.gidMappings")


@parent_step(idmap.MakeUserNamespace)
def make_user_namespace(step: idmap.MakeUserNamespace, launch: Launch) -> None:
    """Create the user namespace; it exists as long as a descriptor of it, or a process in it."""
    ids = launch.ids = step.ids
    launch.namespaces[c.CLONE_NEWUSER] = userns.user_namespace(
        ids.uids, ids.gids, _PLACES, launch.caller.until
    )


@parent_step(idmap.ReadMappings)
def read_mappings(step: idmap.ReadMappings, launch: Launch) -> None:
    """Read the mappings, of the process whose namespaces are joined or of the one to join."""
    if launch.target >= 0:
        found = userns.mappings_of(f"/proc/{_pid_of(launch.target)}")
    else:
        namespace = launch.namespaces[c.CLONE_NEWUSER]
        if userns.is_own(namespace):
            raise StateError(
                "is the runtime's own user namespace, which no process can enter again",
                at="linux.namespaces",
                remedy="leave it out of the list",
            )
        found = userns.mappings(namespace, launch.caller.until)
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


@parent_step(idmap.PrepareMounts)
def prepare_mounts(step: idmap.PrepareMounts, launch: Launch) -> None:
    """Clone what will be bound, detached: it becomes reachable by what the child attaches."""
    if step.rootfs:
        _clone("root.path", open_host(step.rootfs), step.rootfs, True, step, launch)
    for mount in step.mounts:
        try:
            _prepare(mount, step, launch)
        except PycontainError as error:
            raise error.in_step(mount.name, mount.place()) from None


def _prepare(mount: MountStep, step: idmap.PrepareMounts, launch: Launch) -> None:
    """
    With all its attributes, which a process in a user namespace cannot take back.

    For a user namespace those of the source are kept: it could not clear them itself, since they
    are locked in its mount namespace. mount_namespaces(7), Restrictions.
    """
    if isinstance(mount, steps.MountBind):
        source, path, recursive = open_source(mount), mount.source, mount.recursive
    else:
        path, recursive = launch.cgroup_directory, False
        source = open_host(path)
    tree = _clone(mount.why, source, path, recursive, step, launch)
    if isinstance(mount, steps.MountBind) and mount.maps:
        _map_ids(tree, mount, launch)
    set_attributes(tree, mount, keep=bool(step.rootfs))


def _clone(
    key: str, source: int, path: str, recursive: bool, step: idmap.PrepareMounts, launch: Launch
) -> Tree:
    """A detached mount, which is closed with the launch's others whatever happens to it now."""
    try:
        tree = Tree.clone(source, recursive=recursive, at=path)
    finally:
        os.close(source)
    launch.trees[key] = tree.fd
    tree.propagate(step.propagation, recursive=True)
    return tree


def _map_ids(tree: Tree, step: steps.MountBind, launch: Launch) -> None:
    """Map the ids of a mount as it says itself, or as the container's user namespace does."""
    if step.ids is None:
        namespace = launch.namespaces[c.CLONE_NEWUSER]
    else:
        places = f"{step.why}.uidMappings", f"{step.why}.gidMappings"
        until = launch.caller.until
        namespace = userns.user_namespace(step.ids.uids, step.ids.gids, places, until)
    try:
        userns.map_ids(tree.fd, namespace, recursive=step.maps == "ridmap")
    except KernelError as error:
        if error.errno != errno.EINVAL:
            raise
        more = ", or a file system mounted there," if step.maps == "ridmap" else ""
        raise StepError(
            f"is on {_type_of(step.source)}, which{more} does not support id-mapped mounts",
            at=step.source,
            remedy="leave the mapping out, or use another file system",
            errno=errno.EINVAL,
        ) from None
    finally:
        if step.ids is not None:
            os.close(namespace)


def _type_of(path: str) -> str:
    """The type of the file system that a file of the host is on."""
    source = open_host(path)
    number = calls.mount_id(source)
    os.close(source)
    kinds = (kind for found, _, kind, _ in mounted() if found == number)
    return next(kinds, "a file system")


@parent_step(idmap.PrepareDevices)
def prepare_devices(step: idmap.PrepareDevices, launch: ContainerLaunch) -> None:
    """Create and clone each: owner and mode are the container's, not those of the host's file."""
    old = os.umask(0)
    try:
        for index, node in enumerate(step.nodes):
            place = launch.directory.device_file(index)
            os.mknod(place, _KINDS[node.type] | node.mode, os.makedev(node.major, node.minor))
            os.chown(place, launch.host_uid(node.uid), launch.host_gid(node.gid))
            _clone_device(node.path, place, launch)
    except OSError as error:
        raise KernelError.of("mknod", error.errno or 0, node.path) from None
    finally:
        os.umask(old)


@parent_step(idmap.TakeDevices)
def take_devices(step: idmap.TakeDevices, launch: Launch) -> None:
    """Clone each. Raises StepError for one that the host has not, or has as another device."""
    for node in step.nodes:
        device = _KINDS[node.type], os.makedev(node.major, node.minor)
        try:
            found = os.stat(node.path)
            same = (stat.S_IFMT(found.st_mode), found.st_rdev) == device
        except OSError:
            same = False
        if not same:
            raise StepError(
                f"is not the host's {node.type} {node.major}:{node.minor}, which would be bound:"
                " nobody may create devices in a user namespace",
                at=node.path,
                remedy="remove it from linux.devices",
            )
        _clone_device(node.path, node.path, launch)


def _clone_device(key: str, place: str, launch: Launch) -> None:
    file = open_host(place)
    try:
        tree = Tree.clone(file, at=place)
    finally:
        os.close(file)
    launch.trees[key] = tree.fd
    tree.propagate(c.MS_PRIVATE)
    tree.set(c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NOEXEC, c.MOUNT_ATTR_NODEV | c.MOUNT_ATTR_RDONLY)


@parent_step(idmap.RemoveDevices)
def remove_devices(step: idmap.RemoveDevices, launch: ContainerLaunch) -> None:
    """Remove the names; the files remain, as what is mounted."""
    for index in range(step.count):
        os.unlink(launch.directory.device_file(index))


@parent_step(idmap.GiveStreams)
def give_streams(step: idmap.GiveStreams, launch: Launch) -> None:
    """As the child does outside of a user namespace: `init.process.give_streams`."""
    give(launch.host_uid(step.uid), step.takes_files)


@parent_step(idmap.SetIoPriorityOutside)
def set_io_priority(step: idmap.SetIoPriorityOutside, launch: Launch) -> None:
    """I/O scheduling of the child."""
    calls.ioprio_set(step.priority, launch.child.pid)


@parent_step(idmap.RaiseRlimitsOutside)
def raise_rlimits(step: idmap.RaiseRlimitsOutside, launch: Launch) -> None:
    """Raise the child's hard limits, where they are lower."""
    for name, number, hard, at in step.limits:
        raise_limit(launch.child.pid, (name, number, hard, at))
