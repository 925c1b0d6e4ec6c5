"""
The container's file system, built before it is "/".

Nothing here uses a path inside the rootfs as a string: `context.inside` resolves it to a
descriptor, mounts are created detached and attached onto that descriptor. What is in /proc, /sys or
/dev is resolved in the mount that was attached there, whatever that name leads to now.
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

_ONE_WAY = (c.MS_SLAVE, c.MS_PRIVATE)  # what is mounted here does not propagate
_PROC_ROOT_INO = 1  # linux/proc_fs.h
_KERNEL_MADE = (c.PROC_SUPER_MAGIC, c.SYSFS_MAGIC, c.CGROUP2_SUPER_MAGIC)

# The files of /proc that lxcfs and the like bind over.
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

    As a slave it still receives what the host mounts below it, as with runc.
    """
    Tree(open_host("/")).propagate(step.propagation, recursive=step.recursive)
    rootfs = open_host(step.path)
    if not is_directory(rootfs):
        raise StepError("is not a directory", at=step.path)
    kind = c.MS_SLAVE if step.propagation == c.MS_SLAVE else c.MS_PRIVATE
    if not (step.recursive and step.propagation in _ONE_WAY):
        # of the mount that contains it, whatever links lead there
        stop_propagation_at(host_path(rootfs), kind)
    tree = Tree.clone(rootfs, recursive=True, at=step.path)
    tree.attach(rootfs, step.path)
    tree.propagate(kind)  # pivot_root(2) refuses a shared root
    context.root = Root(tree.fd)


def stop_propagation_at(path: str, kind: int) -> None:
    """
    Make the mount that contains a path slave or private, so that mounting on it does not propagate.

    The mount's root is found by walking up: mount_setattr(2) accepts nothing else (EINVAL).
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
    """Create a new file system and attach it."""
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
    # not other tmpfs: with links such as /var/run, one could cover another unnoticed
    ours = step.kind == "tmpfs" and step.target == "/dev" and not step.copy_up
    _attach(tree, target, step, context, trusted=ours)
    if step.readonly_later:
        context.late[step.target] = tree


def _covered_mode(step: steps.MountFilesystem, context: Context) -> tuple[str, ...]:
    """A tmpfs gets the mode of the directory that it covers, as with runc, unless one is given."""
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

    mount(2) takes 4095 bytes of them, and a path: here that of a descriptor, in the host's /proc.
    It is a directory of a tmpfs that covers the target meanwhile. Nobody else can change anything
    in there, so what is opened again is what was mounted.
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
    The directory to mount on, created if missing.

    If /proc or /sys were a symlink, the new file system would be mounted elsewhere
    (CVE-2019-19921, CVE-2023-27561).
    """
    if step.kind in ("proc", "sysfs"):
        target = _real_directory(step.target, context.inside)
    else:
        target = context.inside.make_directory(step.target)
    _refuse_fake_proc(target, step.kind == "proc", step, context)
    return target


def _real_directory(path: str, root: Root) -> int:
    """A directory, not a symlink to one, created if missing."""
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
    """Bind the container's own cgroup."""
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
    """Whether this is a directory whose content only the kernel can have created."""
    return calls.filesystem_type(fd) in _KERNEL_MADE and is_directory(fd)


@child_step(steps.Remount)
def remount(step: steps.Remount, context: Context) -> None:
    """Change a mount: its attributes and, unless it is a bind mount, the file system's options."""
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
    Refuse to cover /proc or files in it, whatever path led there: programs, and we, trust them.

    CVE-2019-16884. whole_proc: a proc file system is to be mounted, from its root.
    """
    proc = context.inside.find("/proc")
    found, on_proc = os.fstat(target), calls.filesystem_type(target) == c.PROC_SUPER_MAGIC
    if (on_proc and found.st_ino == _PROC_ROOT_INO) or (
        proc is not None and os.path.samestat(found, os.fstat(proc))
    ):
        if not whole_proc:
            raise StepError(
                "would cover /proc with something other than a proc file system (CVE-2019-16884)",
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
    """The path of a descriptor; /proc is still the host's here."""
    return os.readlink(f"/proc/self/fd/{fd}")


# --- devices -------------------------------------------------------------------------------------


@child_step(steps.MakeDevices)
def make_devices(step: steps.MakeDevices, context: Context) -> None:
    """
    Create each device file; an existing one must be the same device, and is left unchanged.

    If /dev were a symlink into a directory of the host that is bound into the container, files
    there would be replaced (CVE-2026-41579). The descriptor that was checked is the one used.
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
    """Create the links of /dev; existing ones are kept, except ptmx."""
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
    """Create what later steps need, while everything is still writable."""
    old = os.umask(0)
    for path in step.files:
        os.close(context.inside.make_file(path))
    for path in step.directories:
        try:
            os.close(context.inside.make_directory(path))
        except KernelError as error:
            if error.errno != errno.ELOOP:  # a magic link: the step `cwd` checks where it leads
                raise
    os.umask(old)
