"""
The root file system of one container over that of an image, which stays as it is.

The kernel's overlayfs shows both; what the container writes goes to an upper layer: a directory,
in a file system of a certain size if that is wanted. The mounts are made in a mount namespace of
this process, which the container's is a copy of: they vanish with the container, and the host never
has them.

Source: Documentation/filesystems/overlayfs.rst; mount_namespaces(7).
"""

from __future__ import annotations

import errno
import os

from ..errors import HostError, KernelError
from ..kernel import calls
from ..kernel import const as c
from ..kernel.mounts import Tree
from ..kernel.rights import in_user_namespace
from . import disk, tools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_OPEN_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_UPPER, _WORK, _ROOTFS = "upper", "work", "rootfs"
# Device nodes of an image are not for use: the container's are in /dev, a mount of its own.
_ATTRIBUTES = c.MOUNT_ATTR_NODEV


def own_mounts() -> None:
    """
    Give this process a mount namespace of its own, which still receives what the host mounts.

    Raises KernelError.
    """
    before = os.getcwd()
    calls.unshare(c.CLONE_NEWNS)
    slash = os.open("/", _OPEN_DIRECTORY)
    try:
        Tree(slash).propagate(c.MS_SLAVE, recursive=True)
    finally:
        os.close(slash)
    os.chdir(before)


def stack(lower: int, directory: str, limit: int, warn: Callable[[str], None]) -> str:
    """
    Put a layer for one container over an image; returns the path of its root.

    lower      a descriptor of the image's root
    directory  an empty directory of ours
    limit      bytes of a file system for what is written; 0 for no limit but the host's disk

    Where there is no overlayfs, the root is a copy, and `warn` is called. Raises KernelError.
    """
    rootfs = os.path.join(directory, _ROOTFS)
    if limit:
        _mount(_limited(directory, limit, warn), directory)
    for name in (_UPPER, _WORK, _ROOTFS):
        os.mkdir(os.path.join(directory, name), 0o700)
    root = os.fstat(lower)
    upper, work = (
        os.open(os.path.join(directory, name), _OPEN_DIRECTORY) for name in (_UPPER, _WORK)
    )
    try:
        os.chown(f"/proc/self/fd/{upper}", root.st_uid, root.st_gid)
        os.chmod(f"/proc/self/fd/{upper}", root.st_mode & 0o7777)
        _mount(_overlay(lower, upper, work), rootfs)
    except KernelError as error:
        warn(f"the image is copied for this container, since overlayfs cannot be used: {error}")
        _copy(lower, rootfs)
    finally:
        os.close(upper)
        os.close(work)
    return rootfs


def _limited(directory: str, limit: int, warn: Callable[[str], None]) -> Tree:
    """A file system of this size: in a file beside the directory, or else in memory."""
    try:
        return disk.file_system(f"{directory}.ext4", limit, _ATTRIBUTES)
    except (HostError, KernelError) as error:
        warn(f"--disk limits a file system in memory, since a loop device cannot be used: {error}")
        return Tree.new("tmpfs", (f"size={limit}", "mode=700"), _ATTRIBUTES)


def _overlay(lower: int, upper: int, work: int) -> Tree:
    """
    The overlay, detached. Layers are named by descriptor, so their paths can contain anything.

    volatile: the upper layer ends with the container, so that fsync(2) need not wait (Linux 5.10).
    """
    layers = (("lowerdir", lower), ("upperdir", upper), ("workdir", work))
    options = [*(f"{key}=/proc/self/fd/{fd}" for key, fd in layers), "volatile"]
    if in_user_namespace():
        options.append("userxattr")  # others than the host's root may not set trusted attributes
    return Tree.new("overlay", tuple(options), _ATTRIBUTES, source="image")


def _mount(tree: Tree, place: str) -> None:
    target = os.open(place, _OPEN_DIRECTORY)
    try:
        tree.attach(target, place)
    finally:
        os.close(target)
        os.close(tree.fd)


def _copy(lower: int, rootfs: str) -> None:
    target = os.open(rootfs, _OPEN_DIRECTORY)
    try:
        tools.copy_tree(lower, target)
        tree = Tree.clone(target, at=rootfs)
        tree.set(_ATTRIBUTES, 0)
        _mount(tree, rootfs)
    finally:
        os.close(target)


def unstack(directory: str) -> None:
    """Detach the mounts of `stack` from this process's namespace; the container keeps its own."""
    for place in (os.path.join(directory, _ROOTFS), directory):
        try:
            calls.umount2(place, c.MNT_DETACH | c.UMOUNT_NOFOLLOW)
        except KernelError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):  # it was not mounted
                raise
