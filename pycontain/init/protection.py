"""Paths that are read-only or hidden. config-linux.md, Masked and Readonly Paths."""

from __future__ import annotations

import _stat as stat
import errno

from ..errors import KernelError, StepError
from ..kernel import const as c
from ..kernel.mounts import Tree
from ..kernel.root import is_directory
from ..lean import os
from ..plan import steps
from ..plan.walk import child_step
from .rootfs import open_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.root import Root
    from .context import Context


@child_step(steps.ProtectPaths)
def protect_paths(step: steps.ProtectPaths, context: Context) -> None:
    """Make each path read-only, with everything below it; paths that do not exist are ignored."""
    for path in step.paths:
        try:
            _protect(path, context.inside)
        except KernelError as error:
            raise _at(error, path) from None


def _protect(path: str, root: Root) -> None:
    meant, *seen = root.everywhere(path) or [-1]
    if meant >= 0 and not _is_made_read_only(meant, root):
        root.remember(path, _bind_read_only(meant, path).fd)
    for target in seen:
        _bind_read_only(target, path)


def _at(error: KernelError, path: str) -> KernelError:
    """Add the path to an error that names no file."""
    error.fault.at = error.fault.at or path
    return error


def _is_made_read_only(target: int, root: Root) -> bool:
    """
    If this is a trusted mount, make the mount itself read-only.

    A read-only bind mount on top of it would hide what is masked in it later.
    """
    if not root.is_trusted(target):
        return False
    try:
        Tree(target).set(c.MOUNT_ATTR_RDONLY, 0, recursive=True)
    except KernelError as error:
        if error.errno != errno.EINVAL:  # the same directory, seen through another mount
            raise
        return False
    return True


def _bind_read_only(target: int, path: str) -> Tree:
    """Bind a path to itself, read-only."""
    tree = Tree.clone(target, recursive=True, at=path)
    tree.set(c.MOUNT_ATTR_RDONLY, 0, recursive=True)
    tree.attach(target, path)
    return tree


@child_step(steps.MaskPaths)
def mask_paths(step: steps.MaskPaths, context: Context) -> None:
    """
    Cover each file with /dev/null and each directory with one empty tmpfs.

    The null device is the host's: the container's could be a symlink that an attacker controls
    (CVE-2025-31133). The mount is read-only: otherwise root in the container could make the device
    unusable for the whole host with one chmod(1).
    """
    null: Tree | None = None
    empty: Tree | None = None
    for path in step.paths:
        for target in context.inside.everywhere(path):
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
    status = os.fstat(null)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(1, 3):
        raise StepError("is not the null device", at="/dev/null")
    tree = Tree.clone(null, at="/dev/null")
    tree.set(c.MOUNT_ATTR_RDONLY, 0)
    return tree


@child_step(steps.MakeReadOnly)
def make_read_only(step: steps.MakeReadOnly, context: Context) -> None:
    """Make mounts read-only now that everything in them exists, by their own descriptors."""
    for target in step.targets:
        tree = Tree(context.inside.fd) if target == "/" else context.late.pop(target)
        try:
            tree.set(c.MOUNT_ATTR_RDONLY, 0)
        except KernelError as error:  # such as EBUSY: a hook's process writes to a file
            mount = step.places.get(target)
            error.fault.call = f"{mount}: {error.fault.call}" if mount else error.fault.call
            raise _at(error, target) from None
        if target != "/":
            os.close(tree.fd)
