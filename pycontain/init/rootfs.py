"""
The container's file system, built before it is "/".

Paths inside the rootfs are never passed to the kernel as strings: `context.inside` resolves them to
descriptors, and mounts are created detached and attached to those. Paths below /proc, /sys or /dev
are resolved in the mount that was attached there, whatever the name leads to now.
"""

from __future__ import annotations

import _stat as stat
import errno

from ..errors import KernelError, StepError
from ..kernel import calls
from ..kernel import const as c
from ..kernel.mounts import Tree, fits
from ..kernel.root import Root, is_directory
from ..lean import os
from ..plan import steps
from ..plan.walk import child_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context

_ONE_WAY = (c.MS_SLAVE, c.MS_PRIVATE)  # mounts made here do not propagate out
_PROC_ROOT_INO = 1  # linux/proc_fs.h
_KERNEL_MADE = (c.PROC_SUPER_MAGIC, c.SYSFS_MAGIC, c.CGROUP2_SUPER_MAGIC)

# The files of /proc that lxcfs and the like bind over.
_REPLACEABLE_IN_PROC = frozenset(
    (
        "cpuinfo", "diskstats", "loadavg", "meminfo", "net/dev", "slabinfo", "stat", "swaps",
        "sys/crypto/fips_enabled", "sys/kernel/ns_last_pid", "uptime",
    )
)  # fmt: skip
_OVERFLOW = 65534  # the id of everybody not mapped in our user namespace: user_namespaces(7)


def open_host(path: str, *, follow: bool = True) -> int:
    """Open a file of the host that the configuration names, or what it links to with follow."""
    try:
        return os.open(path, os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    except OSError as error:
        remedy = "create it on the host first" if error.errno == errno.ENOENT else ""
        raise KernelError.of("open", error.errno or 0, path, remedy) from None


@child_step(steps.BindRoot)
def bind_root(step: steps.BindRoot, context: Context) -> None:
    """
    Make the rootfs a mount that nothing propagates out of.

    As a slave it still receives what the host mounts below it, as with runc.
    """
    slash = open_host("/")
    Tree(slash).propagate(step.propagation, recursive=step.recursive)
    rootfs, tree = _root_tree(step.path, context)
    context.mount_point = rootfs
    if not is_directory(tree.fd):
        raise StepError("is not a directory", at=step.path)
    context.shares_root = os.path.samestat(os.fstat(tree.fd), os.fstat(slash))
    kind = c.MS_SLAVE if step.propagation == c.MS_SLAVE else c.MS_PRIVATE
    if not (step.recursive and step.propagation in _ONE_WAY):
        # of the mount that contains it, whatever links lead there
        if context.stage >= 0:
            Tree(rootfs).propagate(kind)
        else:
            stop_propagation_at(host_path(rootfs), kind)
    tree.attach(rootfs, step.path)
    tree.propagate(kind)  # pivot_root(2) refuses a shared root
    context.root = Root(tree.fd)


def _root_tree(path: str, context: Context) -> tuple[int, Tree]:
    """Where to mount the rootfs, and a clone of it."""
    if "root.path" in context.trees:
        return context.stage, Tree(context.trees["root.path"])
    rootfs = open_host(path)
    return rootfs, Tree.clone(rootfs, recursive=True, at=path)


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
    options = step.options + _covered(step, context)
    target = _mount_point(step, context)
    if fits(options):
        pids = context.namespaces.get(c.CLONE_NEWPID, -1) if step.kind == "proc" else -1
        attributes = step.on & ~c.MOUNT_ATTR_RDONLY
        tree = Tree.new(step.kind, options, attributes, step.source, pids)
    else:
        tree = _mount_aside(target, step, ",".join(options))
    if step.copy_up:
        from . import copying  # loaded by the parent

        copying.copy_tree(target, tree.fd)
    tree.set(step.on & c.MOUNT_ATTR_RDONLY, 0)
    tree.set(step.recursive_on, step.recursive_off, recursive=True)
    # not other tmpfs: with links such as /var/run, one could cover another unnoticed
    ours = step.kind == "tmpfs" and step.target == "/dev" and not step.copy_up
    _attach(tree, target, step, context, trusted=ours)
    if step.kind != "devtmpfs":  # it exists only once, and is the host's
        context.filesystems.append(tree.fd)
    if step.readonly_later:
        context.late[step.target] = tree


def _covered(step: steps.MountFilesystem, context: Context) -> tuple[str, ...]:
    """
    Mode and owner of the directory that a tmpfs covers, as its options, except those given.

    One on a mount point that is made for it keeps the kernel's default, 1777: tmpfs(5).
    """
    covered = context.inside.find(step.target) if step.kind == "tmpfs" else None
    if covered is None:
        return ()
    status = os.fstat(covered)
    os.close(covered)
    listed = {option.partition("=")[0] for option in step.options}
    options = {"mode": f"{stat.S_IMODE(status.st_mode):o}"}
    mapped = context.ids is None or context.ids.has(status.st_uid, status.st_gid)
    if mapped and _OVERFLOW not in (status.st_uid, status.st_gid):
        options |= {"uid": str(status.st_uid), "gid": str(status.st_gid)}
    return tuple(f"{key}={value}" for key, value in options.items() if key not in listed)


def _mount_aside(target: int, step: steps.MountFilesystem, options: str) -> Tree:
    """
    Mount with options that are too long for fsconfig(2), such as an overlay's many layers.

    mount(2) takes 4095 bytes of them, and a path: here that of a descriptor, in the host's /proc.
    It is a directory of a tmpfs that covers the target meanwhile. No other process can change
    anything there, so what is opened again is what was mounted.
    """
    aside = Tree.new("tmpfs")
    aside.attach(target, step.target)
    try:
        os.mkdir("mount", dir_fd=aside.fd)
        point = os.open("mount", os.O_PATH | os.O_CLOEXEC, dir_fd=aside.fd)
        calls.mount(step.source, f"/proc/self/fd/{point}", step.kind, options, step.target)
        mounted = os.open("mount", os.O_PATH | os.O_CLOEXEC, dir_fd=aside.fd)
        tree = Tree.clone(mounted, at=step.target)
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
        target = real_directory(step.target, context.inside)
    else:
        existing = context.inside.find(step.target)
        if existing is not None and not is_directory(existing):
            why = "is a file, not a directory, which a file system is mounted on"
            raise StepError(why, at=step.target, errno=errno.ENOTDIR)
        target = context.inside.make_directory(step.target) if existing is None else existing
    _refuse_root(target, step, context)
    _refuse_fake_proc(target, step.kind == "proc", step, context)
    return target


def real_directory(path: str, root: Root) -> int:
    """A directory, not a symlink to one, created if missing. Raises StepError."""
    directory = root.find(path, os.O_PATH | os.O_NOFOLLOW)
    if directory is None:
        os.close(root.make_directory(path))
        directory = root.open(path, os.O_PATH | os.O_NOFOLLOW)
    if not is_directory(directory):
        raise StepError(
            "is not a directory: it must be mounted on ordinary directory",  # runc's words
            at=path,
            remedy="make it one in the rootfs",
        )
    return directory


@child_step(steps.MountBind)
def mount_bind(step: steps.MountBind, context: Context) -> None:
    """Clone a part of the host's tree and attach it, or make it the root."""
    if step.target == "/":
        _replace_root(step, context)
    else:
        _bind(_source(step, context), step.source, step, context)


@child_step(steps.MountCgroup)
def mount_cgroup(step: steps.MountCgroup, context: Context) -> None:
    """Bind the container's own cgroup."""
    prepared = context.trees.get(step.why)
    path = context.cgroup
    tree = Tree.clone(open_host(path), at=path) if prepared is None else Tree(prepared)
    _bind(tree, path, step, context)


def _bind(tree: Tree, path: str, step: steps.MountStep, context: Context) -> None:
    follow = True
    if isinstance(step, steps.MountBind):
        if step.copies_link and _is_link(tree.fd):
            return _copy_link(os.readlink("", dir_fd=tree.fd), step, context.inside)
        follow = not step.covers_link
    target = _bind_point(path, is_directory(tree.fd), step.target, context.inside, follow=follow)
    _refuse_root(target, step, context)
    _refuse_fake_proc(target, _is_whole_proc(tree.fd), step, context)
    set_attributes(tree, step)
    _attach(tree, target, step, context)


def set_attributes(tree: Tree, step: steps.MountStep, *, keep: bool = False) -> None:
    """Set the attributes of a bind mount: those listed and, with keep, all of its source."""
    if isinstance(step, steps.MountBind) and step.unlisted and not keep:
        tree.clear_unless_locked(step.unlisted)
    tree.set(step.on, step.off)
    tree.set(step.recursive_on, step.recursive_off, recursive=True)


def _source(step: steps.MountBind, context: Context) -> Tree:
    """A clone of what is to be bound, unless the parent has prepared it."""
    if step.why in context.trees:
        return Tree(context.trees[step.why])
    return Tree.clone(open_source(step), recursive=step.recursive, at=step.source)


def open_source(step: steps.MountBind) -> int:
    """Open the source of a bind mount; a symlink itself if that is to be bound or copied."""
    return open_host(step.source, follow=not (step.copies_link or step.binds_link))


def _copy_link(link_target: str, step: steps.MountBind, inside: Root) -> None:
    """Create the same symlink in the rootfs, unless it is there. Raises StepError, KernelError."""
    directory, name = inside.parent(step.target)
    try:
        os.symlink(link_target, name, dir_fd=directory)
    except FileExistsError:
        link = inside.open(step.target, os.O_PATH | os.O_NOFOLLOW)
        if not _is_link(link) or os.readlink("", dir_fd=link) != link_target:
            raise StepError(
                f"exists, and is not a symlink to {link_target} as {step.source} is",
                at=step.target,
                remedy='remove it from the rootfs, or the option "copy-symlink"',
            ) from None
    except OSError as error:
        raise KernelError.of("symlinkat", error.errno or 0, step.target) from None
    finally:
        os.close(directory)


def _is_link(fd: int) -> bool:
    return stat.S_ISLNK(os.fstat(fd).st_mode)


def _bind_point(source: str, directory: bool, target: str, inside: Root, *, follow: bool) -> int:
    """The destination, created if missing; it and the source must be of one kind. mount(2)."""
    existing = inside.find(target, os.O_PATH | (0 if follow else os.O_NOFOLLOW))
    if existing is None:
        return inside.make_directory(target) if directory else inside.make_file(target)
    if is_directory(existing) != directory:
        why = (
            f"is a directory, but its destination {target} is a file, not a directory"
            if directory
            else f"is a file, not a directory like its destination {target}"
        )
        raise StepError(why, at=source, errno=errno.ENOTDIR)
    return existing


def _replace_root(step: steps.MountBind, context: Context) -> None:
    """
    Make a directory of the host the root, in place of the rootfs and everything mounted in it.

    Those are unmounted, not covered: where the root is not pivoted they would remain, and a proc
    without masks among them would let a process in a new user namespace mount another one.
    """
    tree = _source(step, context)
    if not is_directory(tree.fd):
        why = "is a file, not a directory, and cannot become the root"
        raise StepError(why, at=step.source, errno=errno.ENOTDIR)
    set_attributes(tree, step)
    context.shares_root = os.path.samestat(os.fstat(tree.fd), os.fstat(open_host("/")))
    old = context.inside.fd
    Tree(old).propagate(c.MS_SLAVE, recursive=True)  # so that nothing is unmounted on the host
    calls.umount2(f"/proc/self/fd/{old}", c.MNT_DETACH)
    context.root = Root(tree.fd)
    _attach(tree, context.mount_point, step, context)
    # pivot_root(2) refuses a shared root, and nothing in an unbindable one could be made read-only:
    # options of the root itself are applied once it is "/"
    unbindable = bool(step.propagation) and step.propagation[-1][0] == c.MS_UNBINDABLE
    tree.propagate(c.MS_PRIVATE if unbindable else c.MS_SLAVE)


def _refuse_root(target: int, step: steps.MountStep, context: Context) -> None:
    """
    Refuse to mount on the root because a link of the image leads there.

    The program would run below that mount, but a process of `exec` in it, as setns(2) has it.
    """
    root = context.inside.fd
    if not os.path.samestat(os.fstat(target), os.fstat(root)):
        return
    if calls.mount_id(target) == calls.mount_id(root):
        remedy = "remove the link from the rootfs, or mount elsewhere"
        raise StepError("leads to the root itself", at=step.target, remedy=remedy)


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
    if step.options:
        tree.reconfigure(step.options, step.target)
    tree.set(step.on, step.off)
    tree.set(step.recursive_on, step.recursive_off, recursive=True)
    for kind, recursive in step.propagation:
        tree.propagate(kind, recursive=recursive)


def _refuse_fake_proc(
    target: int, whole_proc: bool, step: steps.MountStep, context: Context
) -> None:
    """
    Refuse to cover /proc or files in it, by whatever path: programs, and we, trust its content.

    CVE-2019-16884. whole_proc: a proc file system is to be mounted, from its root.
    """
    proc = context.inside.find("/proc")
    status, on_proc = os.fstat(target), calls.filesystem_type(target) == c.PROC_SUPER_MAGIC
    if (on_proc and status.st_ino == _PROC_ROOT_INO) or (
        proc is not None and os.path.samestat(status, os.fstat(proc))
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


# --- what later steps need -----------------------------------------------------------------------


@child_step(steps.MakePlaces)
def make_places(step: steps.MakePlaces, context: Context) -> None:
    """Create what later steps need, while everything is still writable."""
    for path in step.files:
        os.close(context.inside.make_file(path))
    for path in step.directories:
        try:
            os.close(context.inside.make_directory(path))
        except KernelError as error:
            if error.errno != errno.ELOOP:  # a magic link: the step `cwd` checks where it leads
                raise
