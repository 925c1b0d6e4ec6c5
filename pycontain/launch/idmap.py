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
_FIELDS = ("linux.uidMappings", "linux.gidMappings")


@parent_step(idmap.MakeUserNamespace)
def make_user_namespace(step: idmap.MakeUserNamespace, launch: Launch) -> None:
    """Create the user namespace; it exists as long as a descriptor of it, or a process in it."""
    ids = launch.ids = step.ids
    launch.namespaces[c.CLONE_NEWUSER] = userns.user_namespace(
        ids.uids, ids.gids, _FIELDS, launch.caller.until
    )


@parent_step(idmap.ReadMappings)
def read_mappings(step: idmap.ReadMappings, launch: Launch) -> None:
    """Read the mappings of the container's process, or of the user namespace to join."""
    if launch.target >= 0:
        mappings = userns.mappings_of(f"/proc/{_pid_of(launch.target)}")
    else:
        namespace = launch.namespaces[c.CLONE_NEWUSER]
        if userns.is_own(namespace):
            raise StateError(
                "is the runtime's own user namespace, which no process can enter again",
                at="linux.namespaces",
                remedy="leave it out of the list",
            )
        mappings = userns.mappings(namespace, launch.caller.until)
    launch.ids = Ids(uids=mappings[0], gids=mappings[1])
    if step.wanted is not None and step.wanted != launch.ids:
        raise StateError(
            f"differ from those of the user namespace, which maps {launch.ids}",
            at=" and ".join(_FIELDS),
            remedy="leave them out, or join another one",
        )


def _pid_of(pidfd: int) -> int:
    """The process behind a pidfd; -1 if it has ended. pidfd_open(2)."""
    lines = read_bytes(f"/proc/self/fdinfo/{pidfd}").splitlines()
    return next(int(line[4:]) for line in lines if line.startswith(b"Pid:"))


@parent_step(idmap.PrepareMounts)
def prepare_mounts(step: idmap.PrepareMounts, launch: Launch) -> None:
    """Clone the sources of bind mounts, detached; the child attaches them."""
    if step.rootfs:
        _clone("root.path", open_host(step.rootfs), step.rootfs, True, step, launch)
    for mount in step.mounts:
        try:
            _prepare(mount, step, launch)
        except PycontainError as error:
            raise error.in_step(mount.name, mount.place()) from None


def _prepare(mount: MountStep, step: idmap.PrepareMounts, launch: Launch) -> None:
    """
    Prepare one mount, with all its attributes, which a process in a user namespace cannot clear.

    For a user namespace the source's attributes are kept: they would be locked in its mount
    namespace anyway. mount_namespaces(7), Restrictions.
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
    """A detached mount, registered at once, so that it is closed even if something fails now."""
    try:
        tree = Tree.clone(source, recursive=recursive, at=path)
    finally:
        os.close(source)
    launch.trees[key] = tree.fd
    tree.propagate(step.propagation, recursive=True)
    return tree


def _map_ids(tree: Tree, step: steps.MountBind, launch: Launch) -> None:
    """Map the ids of a mount as it specifies, or as the container's user namespace does."""
    if step.ids is None:
        namespace = launch.namespaces[c.CLONE_NEWUSER]
    else:
        fields = f"{step.why}.uidMappings", f"{step.why}.gidMappings"
        until = launch.caller.until
        namespace = userns.user_namespace(step.ids.uids, step.ids.gids, fields, until)
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
    kinds = (kind for mount, _, kind, _ in mounted() if mount == number)
    return next(kinds, "a file system")


@parent_step(idmap.PrepareDevices)
def prepare_devices(step: idmap.PrepareDevices, launch: ContainerLaunch) -> None:
    """Create each device file, with the container's owner and mode, and clone it."""
    old = os.umask(0)
    try:
        for index, node in enumerate(step.nodes):
            path = launch.directory.device_file(index)
            os.mknod(path, _KINDS[node.type] | node.mode, os.makedev(node.major, node.minor))
            os.chown(path, launch.host_uid(node.uid), launch.host_gid(node.gid))
            _clone_device(node.path, path, launch)
    except OSError as error:
        raise KernelError.of("mknod", error.errno or 0, node.path) from None
    finally:
        os.umask(old)


@parent_step(idmap.TakeDevices)
def take_devices(step: idmap.TakeDevices, launch: Launch) -> None:
    """Clone each device file. Raises StepError if the host's is missing or another device."""
    for node in step.nodes:
        device = _KINDS[node.type], os.makedev(node.major, node.minor)
        try:
            status = os.stat(node.path)
            same = (stat.S_IFMT(status.st_mode), status.st_rdev) == device
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


def _clone_device(key: str, path: str, launch: Launch) -> None:
    file = open_host(path)
    try:
        tree = Tree.clone(file, at=path)
    finally:
        os.close(file)
    launch.trees[key] = tree.fd
    tree.propagate(c.MS_PRIVATE)
    tree.set(c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NOEXEC, c.MOUNT_ATTR_NODEV | c.MOUNT_ATTR_RDONLY)


@parent_step(idmap.RemoveDevices)
def remove_devices(step: idmap.RemoveDevices, launch: ContainerLaunch) -> None:
    """Remove the names; the files remain, since they are mounted."""
    for index in range(step.count):
        os.unlink(launch.directory.device_file(index))


@parent_step(idmap.GiveStreams)
def give_streams(step: idmap.GiveStreams, launch: Launch) -> None:
    """Give the streams to the container's user, as the child does without a user namespace."""
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
