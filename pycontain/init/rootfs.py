"""
The container's file system, built before it is "/".

Nothing here uses a path inside the rootfs as a string: `box.inside` resolves it to a descriptor,
mounts are made detached and attached onto that descriptor. What lies in /proc, /sys or /dev is
resolved in the mount that was attached there, whatever has that name by now.
"""

from __future__ import annotations

import _stat as stat
import errno

from .. import os
from ..errors import KernelError, StepError
from ..kernel import calls
from ..kernel import const as c
from ..kernel.mounts import Tree, fits
from ..kernel.root import Root, is_below, is_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan import steps
    from .box import Box

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


def bind_root(step: steps.BindRoot, box: Box) -> None:
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
    box.root = Root(tree.fd)


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


def mount_filesystem(step: steps.MountFilesystem, box: Box) -> None:
    """Make a new file system and attach it."""
    mode = _covered_mode(step, box)
    target = _mount_point(step, box)
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
    _attach(tree, target, step, box, sealed=ours)
    if step.readonly_later:
        box.late[step.target] = tree


def _covered_mode(step: steps.MountFilesystem, box: Box) -> tuple[str, ...]:
    """A tmpfs takes the mode of the directory that it covers, as with runc, unless one is given."""
    if step.kind != "tmpfs" or any(option.startswith("mode=") for option in step.options):
        return ()
    covered = box.inside.find(step.target)
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


def _mount_point(step: steps.MountFilesystem, box: Box) -> int:
    """
    The directory to mount on, made when missing.

    /proc and /sys as symlinks would put the new file system elsewhere (CVE-2019-19921,
    CVE-2023-27561).
    """
    if step.kind in ("proc", "sysfs"):
        target = _real_directory(step.target, box.inside)
    else:
        target = box.inside.make_directory(step.target)
    _refuse_fake_proc(target, step.kind == "proc", step, box)
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


def mount_bind(step: steps.MountBind, box: Box) -> None:
    """Clone a part of the host's tree and attach it."""
    _bind(step.source, step.recursive, step, box)


def mount_cgroup(step: steps.MountCgroup, box: Box) -> None:
    """Show the container its own cgroup."""
    _bind(box.cgroup, False, step, box)


def _bind(path: str, recursive: bool, step: steps.MountStep, box: Box) -> None:
    source = open_host(path)
    tree = Tree.clone(source, recursive=recursive, at=path)
    inside = box.inside
    directory = is_directory(source)
    target = inside.make_directory(step.target) if directory else inside.make_file(step.target)
    _refuse_fake_proc(target, _is_whole_proc(source), step, box)
    tree.set(step.on, step.off)
    tree.set(step.recursive_on, step.recursive_off, recursive=True)
    _attach(tree, target, step, box)


def _attach(
    tree: Tree, target: int, step: steps.MountStep, box: Box, *, sealed: bool = False
) -> None:
    tree.attach(target, step.target)
    for kind, recursive in step.propagation:
        tree.propagate(kind, recursive=recursive)
    box.inside.remember(step.target, tree.fd, sealed=sealed or _is_kernel_made(tree.fd))


def _is_kernel_made(fd: int) -> bool:
    """Whether this is a directory whose content nobody but the kernel can have made."""
    return calls.filesystem_type(fd) in _KERNEL_MADE and is_directory(fd)


def remount(step: steps.Remount, box: Box) -> None:
    """Change what is mounted: of a bind mount the attributes, otherwise the file system."""
    tree = Tree(box.inside.mount(step.target))
    if step.options and not step.bind:
        tree.reconfigure(step.options, step.target)
    tree.set(step.on, step.off)
    tree.set(step.recursive_on, step.recursive_off, recursive=True)
    for kind, recursive in step.propagation:
        tree.propagate(kind, recursive=recursive)


def _refuse_fake_proc(target: int, whole_proc: bool, step: steps.MountStep, box: Box) -> None:
    """
    Whatever path led here: programs, and we, trust what is in /proc (CVE-2019-16884).

    whole_proc  what will be mounted is a proc file system from its root on
    """
    proc = box.inside.find("/proc")
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


def make_devices(step: steps.MakeDevices, box: Box) -> None:
    """
    Make each device file; one that is there must be the same, and is left as it is.

    /dev as a symlink could lead into a directory of the host that is bound into the container:
    its files would be replaced (CVE-2026-41579). What was checked is what is used.
    """
    wanted = any(is_below(node.path, "/dev") for node in step.nodes)
    dev = Root(_real_directory("/dev", box.inside)) if wanted else None
    old = os.umask(0)
    directories: dict[str, int] = {}  # opened once each: most are in /dev
    for node in step.nodes:
        folder, _, name = node.path.rpartition("/")
        if folder not in directories:
            directories[folder] = _device_folder(folder, dev, box.inside)
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


def link_devices(step: steps.LinkDevices, box: Box) -> None:
    """Make the links of /dev; those that exist are the rootfs's own business, but for ptmx."""
    directory = _real_directory("/dev", box.inside)
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


def make_places(step: steps.MakePlaces, box: Box) -> None:
    """Make what later steps find there, while all can still be written."""
    old = os.umask(0)
    for path in step.files:
        os.close(box.inside.make_file(path))
    for path in step.directories:
        try:
            os.close(box.inside.make_directory(path))
        except KernelError as error:
            if error.errno != errno.ELOOP:  # a magic link: whoever goes there judges it
                raise
    os.umask(old)


# --- protection ----------------------------------------------------------------------------------


def protect_paths(step: steps.ProtectPaths, box: Box) -> None:
    """Make each path read-only, with all below it; those that do not exist need no protection."""
    for path in step.paths:
        meant, *seen = box.inside.everywhere(path) or [-1]
        if meant >= 0 and not _is_made_read_only(meant, box.inside):
            box.inside.remember(path, _bind_read_only(meant, path).fd)
        for target in seen:
            _bind_read_only(target, path)


def _is_made_read_only(target: int, root: Root) -> bool:
    """
    Make a sealed mount read-only itself, if this is one.

    A copy over it would hide what is masked in it later.
    """
    if not root.is_sealed(target):
        return False
    try:
        Tree(target).set(c.MOUNT_ATTR_RDONLY, 0, recursive=True)
    except KernelError as error:
        if error.errno != errno.EINVAL:  # the same directory, seen through another mount
            raise
        return False
    return True


def _bind_read_only(target: int, path: str) -> Tree:
    """Bind a path on itself, read-only."""
    tree = Tree.clone(target, recursive=True, at=path)
    tree.set(c.MOUNT_ATTR_RDONLY, 0, recursive=True)
    tree.attach(target, path)
    return tree


def mask_paths(step: steps.MaskPaths, box: Box) -> None:
    """
    Cover each file with /dev/null and each directory with one empty tmpfs.

    The null device is the host's: the container's could be a symlink to what the attacker wants
    mounted here (CVE-2025-31133). It is read-only, as an inode: root in the container could
    otherwise take it from everyone with one chmod(1).
    """
    null: Tree | None = None
    empty: Tree | None = None
    for path in step.paths:
        for target in box.inside.everywhere(path):
            if is_directory(target):
                empty = Tree.clone(empty.fd) if empty else empty_directory()
                empty.attach(target, path)
            else:
                null = Tree.clone(null.fd) if null else _null()
                null.attach(target, path)


def empty_directory() -> Tree:
    return Tree.new("tmpfs", ("size=0", "nr_inodes=1"), c.MOUNT_ATTR_RDONLY)


def _null() -> Tree:
    null = open_host("/dev/null")
    found = os.fstat(null)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(1, 3):
        raise StepError("is not the null device", at="/dev/null")
    tree = Tree.clone(null, at="/dev/null")
    tree.set(c.MOUNT_ATTR_RDONLY, 0)
    return tree


def freeze_mounts(step: steps.FreezeMounts, box: Box) -> None:
    """Make mounts read-only in which nothing is left to be made, the very ones that were made."""
    for target in step.targets:
        if target == "/":
            Tree(box.inside.fd).set(c.MOUNT_ATTR_RDONLY, 0)
        else:
            tree = box.late.pop(target)
            tree.set(c.MOUNT_ATTR_RDONLY, 0)
            os.close(tree.fd)
