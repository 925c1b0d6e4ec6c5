"""
The container's file system, built before it is "/".

Nothing here uses a path inside the rootfs as a string: `context.inside` resolves it to a
descriptor, mounts are made detached and attached onto that descriptor. What lies in /proc, /sys or
/dev is resolved in the mount that was attached there, whatever has that name by now.
"""

from __future__ import annotations

import _stat as stat
import errno

from ..errors import KernelError, StepError
from ..kernel import calls
from ..kernel import const as c
from ..kernel.mounts import Tree, fits
from ..kernel.root import Root, is_below, is_directory
from ..lean import os
from ..plan import steps
from ..plan.walk import child_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context

_ONE_WAY = (c.MS_SLAVE, c.MS_PRIVATE)  # what is mounted here is mounted nowhere else
_PROC_ROOT_INO = 1  # linux/proc_fs.h
_KERNEL_MADE = (c.PROC_SUPER_MAGIC, c.SYSFS_MAGIC, c.CGROUP2_SUPER_MAGIC)

# What lxcfs and the like bind over single files of /proc.
_REPLACEABLE_IN_PROC = frozenset(
    (
        "cpuinfo", "diskstats", "loadavg", "meminfo", "net/dev", "slabinfo", "stat", "swaps",
        "sys/crypto/fips_enabled", "sys/kernel/ns_last_pid", "uptime",
    )
)  # fmt: skip


def open_host(path: str) -> int:
    """A file of the host, named by the configuration."""
    try:
        return os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError.of("open", error.errno or 0, path) from None


@child_step(steps.BindRoot)
def bind_root(step: steps.BindRoot, context: Context) -> None:
    """
    Make the rootfs a mount that nothing propagates out of.

    As a slave it still receives what the host mounts there, as with runc.
    """
    Tree(open_host("/")).propagate(step.propagation, recursive=step.recursive)
    rootfs = open_host(step.path)
    if not is_directory(rootfs):
        raise StepError("is not a directory", at=step.path)
    kind = c.MS_SLAVE if step.propagation == c.MS_SLAVE else c.MS_PRIVATE
    if not (step.recursive and step.propagation in _ONE_WAY):
        # of the mount it is on, whatever links led there
        stop_propagation_at(host_path(rootfs), kind)
    tree = Tree.clone(rootfs, recursive=True, at=step.path)
    tree.attach(rootfs, step.path)
    tree.propagate(kind)  # pivot_root(2) refuses a shared root
    context.root = Root(tree.fd)


def stop_propagation_at(path: str, kind: int) -> None:
    """
    Make the mount that a path lies on a slave or private: what is mounted there stays in here.

    The mount's root is found by walking up: mount_setattr(2) takes nothing else (EINVAL).
    """
    while True:
        fd = open_host(path)
        try:
            return Tree(fd).propagate(kind)
        except KernelError as error:
            if error.errno != errno.EINVAL or path == "/":
                raise
        finally:
            os.close(fd)
        path = os.path.dirname(path)


# --- mounts --------------------------------------------------------------------------------------


@child_step(steps.MountFilesystem)
def mount_filesystem(step: steps.MountFilesystem, context: Context) -> None:
    """Make a new file system and attach it."""
    mode = _covered_mode(step, context)
    target = _mount_point(step, context)
    if fits(step.options):
        on = step.on & ~c.MOUNT_ATTR_RDONLY
        tree = Tree.new(step.kind, step.options + mode, on, step.source)
    else:
        tree = _mount_aside(target, step)
    if step.copy_up:
        from . import copying  # loaded by the parent

        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        copying.copy_tree(os.open(".", flags, dir_fd=target), tree.fd)
    tree.set(step.on & c.MOUNT_ATTR_RDONLY, 0)
    tree.set(step.recursive_on, step.recursive_off, recursive=True)
    # of other tmpfs, links such as /var/run could hide from us that one covers another
    ours = step.kind == "tmpfs" and step.target == "/dev" and not step.copy_up
    _attach(tree, target, step, context, trusted=ours)
    if step.readonly_later:
        context.late[step.target] = tree


def _covered_mode(step: steps.MountFilesystem, context: Context) -> tuple[str, ...]:
    """A tmpfs takes the mode of the directory that it covers, as with runc, unless one is given."""
    if step.kind != "tmpfs" or any(option.startswith("mode=") for option in step.options):
        return ()
    covered = context.inside.find(step.target)
    if covered is None:
        return ()
    mode = stat.S_IMODE(os.fstat(covered).st_mode)
    os.close(covered)
    return (f"mode={mode:o}",)


def _mount_aside(target: int, step: steps.MountFilesystem) -> Tree:
    """
    Mount with options that are too long for fsconfig(2), such as an overlay's many layers.

    mount(2) takes 4095 bytes of them, and a path: the descriptor's own, in the host's /proc. It
    leads into a tmpfs that covers the target for as long as that takes: what is mounted there is
    what is opened again, since nobody else is in there.
    """
    data = ",".join(step.options)
    aside = Tree.new("tmpfs")
    aside.attach(target, step.target)
    try:
        os.mkdir("it", dir_fd=aside.fd)
        place = os.open("it", os.O_PATH | os.O_CLOEXEC, dir_fd=aside.fd)
        calls.mount(step.source, f"/proc/self/fd/{place}", step.kind, data, step.target)
        made = os.open("it", os.O_PATH | os.O_CLOEXEC, dir_fd=aside.fd)
        tree = Tree.clone(made, at=step.target)
    finally:
        calls.umount2(f"/proc/self/fd/{aside.fd}", c.MNT_DETACH)
    tree.set(step.on & ~c.MOUNT_ATTR_RDONLY, step.off)
    return tree


def _mount_point(step: steps.MountFilesystem, context: Context) -> int:
    """
    The directory to mount on, made when missing.

    /proc and /sys as symlinks would put the new file system elsewhere (CVE-2019-19921,
    CVE-2023-27561).
    """
    if step.kind in ("proc", "sysfs"):
        target = _real_directory(step.target, context.inside)
    else:
        target = context.inside.make_directory(step.target)
    _refuse_fake_proc(target, step.kind == "proc", step, context)
    return target


def _real_directory(path: str, root: Root) -> int:
    """A directory that is no link to one, made when missing."""
    found = root.find(path, os.O_PATH | os.O_NOFOLLOW)
    if found is None:
        os.close(root.make_directory(path))
        found = root.open(path, os.O_PATH | os.O_NOFOLLOW)
    if not is_directory(found):
        raise StepError(
            "is not a directory: it must be mounted on ordinary directory",  # runc's words
            at=path,
            remedy="make it one in the rootfs",
        )
    return found


@child_step(steps.MountBind)
def mount_bind(step: steps.MountBind, context: Context) -> None:
    """Clone a part of the host's tree and attach it."""
    _bind(step.source, step.recursive, step, context)


@child_step(steps.MountCgroup)
def mount_cgroup(step: steps.MountCgroup, context: Context) -> None:
    """Show the container its own cgroup."""
    _bind(context.cgroup, False, step, context)


def _bind(path: str, recursive: bool, step: steps.MountStep, context: Context) -> None:
    source = open_host(path)
    tree = Tree.clone(source, recursive=recursive, at=path)
    inside = context.inside
    directory = is_directory(source)
    target = inside.make_directory(step.target) if directory else inside.make_file(step.target)
    _refuse_fake_proc(target, _is_whole_proc(source), step, context)
    tree.set(step.on, step.off)
    tree.set(step.recursive_on, step.recursive_off, recursive=True)
    _attach(tree, target, step, context)


def _attach(
    tree: Tree, target: int, step: steps.MountStep, context: Context, *, trusted: bool = False
) -> None:
    tree.attach(target, step.target)
    for kind, recursive in step.propagation:
        tree.propagate(kind, recursive=recursive)
    context.inside.remember(step.target, tree.fd, trusted=trusted or _is_kernel_made(tree.fd))


def _is_kernel_made(fd: int) -> bool:
    """Whether this is a directory whose content nobody but the kernel can have made."""
    return calls.filesystem_type(fd) in _KERNEL_MADE and is_directory(fd)


@child_step(steps.Remount)
def remount(step: steps.Remount, context: Context) -> None:
    """Change what is mounted: of a bind mount the attributes, otherwise the file system."""
    tree = Tree(context.inside.mount(step.target))
    if step.options and not step.bind:
        tree.reconfigure(step.options, step.target)
    tree.set(step.on, step.off)
    tree.set(step.recursive_on, step.recursive_off, recursive=True)
    for kind, recursive in step.propagation:
        tree.propagate(kind, recursive=recursive)


def _refuse_fake_proc(
    target: int, whole_proc: bool, step: steps.MountStep, context: Context
) -> None:
    """
    Whatever path led here: programs, and we, trust what is in /proc (CVE-2019-16884).

    whole_proc  what will be mounted is a proc file system from its root on
    """
    proc = context.inside.find("/proc")
    found, on_proc = os.fstat(target), calls.filesystem_type(target) == c.PROC_SUPER_MAGIC
    if (on_proc and found.st_ino == _PROC_ROOT_INO) or (
        proc is not None and os.path.samestat(found, os.fstat(proc))
    ):
        if not whole_proc:
            raise StepError(
                "would cover /proc with what is no proc file system (CVE-2019-16884)",
                at=step.target,
                remedy='mount type "proc" there',
            )
    elif on_proc:
        base = host_path(proc) if proc is not None else ""
        if host_path(target).removeprefix(base + "/") not in _REPLACEABLE_IN_PROC:
            raise StepError(
                "is inside /proc, where only a few files may be replaced (CVE-2019-16884)",
                at=step.target,
                remedy=f"mount elsewhere, or on one of {', '.join(sorted(_REPLACEABLE_IN_PROC))}",
            )


def _is_whole_proc(fd: int) -> bool:
    """Whether this is the root of a proc file system."""
    return calls.filesystem_type(fd) == c.PROC_SUPER_MAGIC and os.fstat(fd).st_ino == _PROC_ROOT_INO


def host_path(fd: int) -> str:
    """Where a descriptor is; /proc is still the host's own here."""
    return os.readlink(f"/proc/self/fd/{fd}")


# --- devices -------------------------------------------------------------------------------------


@child_step(steps.MakeDevices)
def make_devices(step: steps.MakeDevices, context: Context) -> None:
    """
    Make each device file; one that is there must be the same, and is left as it is.

    /dev as a symlink could lead into a directory of the host that is bound into the container:
    its files would be replaced (CVE-2026-41579). What was checked is what is used.
    """
    wanted = any(is_below(node.path, "/dev") for node in step.nodes)
    dev = Root(_real_directory("/dev", context.inside)) if wanted else None
    old = os.umask(0)
    directories: dict[str, int] = {}  # opened once each: most are in /dev
    for node in step.nodes:
        folder, _, name = node.path.rpartition("/")
        if folder not in directories:
            directories[folder] = _device_folder(folder, dev, context.inside)
        _make_device(node, directories[folder], name)
    for directory in directories.values():
        os.close(directory)
    os.umask(old)


def _device_folder(path: str, dev: Root | None, inside: Root) -> int:
    if dev is not None and is_below(path, "/dev"):
        return dev.make_directory(path.removeprefix("/dev"))
    return inside.make_directory(path)


def _make_device(node: steps.DeviceNode, directory: int, name: str) -> None:
    kind = {"c": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}[node.type]
    device = os.makedev(node.major, node.minor) if node.type != "p" else 0
    try:
        os.mknod(name, kind | node.mode, device, dir_fd=directory)
    except FileExistsError:
        return _check_device(node, kind, device, os.lstat(name, dir_fd=directory))
    except OSError as error:
        raise KernelError.of("mknod", error.errno or 0, node.path) from None
    if node.uid or node.gid:
        os.chown(name, node.uid, node.gid, dir_fd=directory, follow_symlinks=False)


def _check_device(node: steps.DeviceNode, kind: int, device: int, found: os.stat_result) -> None:
    if stat.S_IFMT(found.st_mode) != kind or (node.type != "p" and found.st_rdev != device):
        raise StepError(
            f"exists and is not the device {node.type} {node.major}:{node.minor}",
            at=node.path,
            remedy="remove it from the rootfs",
        )


@child_step(steps.LinkDevices)
def link_devices(step: steps.LinkDevices, context: Context) -> None:
    """Make the links of /dev; those that exist are the rootfs's own business, but for ptmx."""
    directory = _real_directory("/dev", context.inside)
    for path, target in step.links:
        name = path.removeprefix("/dev/")
        if name == "ptmx":
            _remove(directory, name)
        try:
            os.symlink(target, name, dir_fd=directory)
        except FileExistsError:
            pass
    os.close(directory)


def _remove(directory: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass


@child_step(steps.MakePlaces)
def make_places(step: steps.MakePlaces, context: Context) -> None:
    """Make what later steps find there, while all can still be written."""
    old = os.umask(0)
    for path in step.files:
        os.close(context.inside.make_file(path))
    for path in step.directories:
        try:
            os.close(context.inside.make_directory(path))
        except KernelError as error:
            if error.errno != errno.ELOOP:  # a magic link: whoever goes there judges it
                raise
    os.umask(old)
