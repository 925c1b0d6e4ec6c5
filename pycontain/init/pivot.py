"""The rootfs becomes "/", and the host's tree is detached. pivot_root(2)."""

from __future__ import annotations

import errno

from ..errors import KernelError
from ..kernel import calls
from ..kernel import const as c
from ..kernel.mounts import Tree, mounted
from ..kernel.root import is_below
from ..lean import os
from ..plan import steps
from ..plan.walk import child_step
from .protection import empty_directory
from .rootfs import host_path, open_host, stop_propagation_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context

_HIDDEN = -1  # below another mount, not reachable by a path
_MOST_STACKED = 64  # mounts on one directory


@child_step(steps.ChangeRoot)
def change_root(step: steps.ChangeRoot, context: Context) -> None:
    """Make the rootfs "/" and detach the host's tree. pivot_root(2), "pivot_root(".", ".")"."""
    if step.pivot:
        _pivot(context.inside.fd)
    else:
        _move(context.inside.fd)
    if step.propagation:  # of this mount alone: the others have their own options
        Tree(context.inside.fd).propagate(step.propagation)
    context.close_others()


def _pivot(root: int) -> None:
    old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fchdir(root)
    calls.pivot_root(b".", b".")
    os.fchdir(old)  # "." is now the old root, stacked on the new one
    Tree(old).propagate(c.MS_SLAVE, recursive=True)  # so that nothing is unmounted on the host
    calls.umount2(".", c.MNT_DETACH)
    os.chdir("/")


def _move(root: int) -> None:
    """For a root that cannot be pivoted, such as an initramfs: cover "/" with the rootfs."""
    _detach_kernel_mounts(host_path(root))
    slash = open_host("/")
    calls.move_mount(root, slash, "/")
    os.fchdir(root)
    os.chroot(".")
    os.chdir("/")


def _detach_kernel_mounts(rootfs: str) -> None:
    """
    Unmount the host's proc and sysfs, which remain when the root is not pivoted.

    While an unmasked one exists, a process in a new user namespace may mount another: the kernel
    allows what is already fully visible (mount_too_revealing in fs/namespace.c).
    """
    for number, point, kind, _ in reversed(list(mounted())):  # the innermost first
        if kind in ("proc", "sysfs") and not is_below(point, rootfs):
            for _ in range(_MOST_STACKED):
                if _detach(point) in (number, _HIDDEN):
                    break


def _detach(point: str) -> int:
    """Remove the topmost mount at a point; returns its id, or _HIDDEN."""
    top = -1
    try:
        top = open_host(point)
        number = calls.mount_id(top)
        # unmounting propagates to the peers of the parent mount
        Tree(top).propagate(c.MS_PRIVATE, recursive=True)
        stop_propagation_at(os.path.dirname(point), c.MS_PRIVATE)
        _unmount_or_cover(point, top)
        return number
    except KernelError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):
            raise
        return _HIDDEN
    finally:
        if top >= 0:
            os.close(top)


def _unmount_or_cover(point: str, mount: int) -> None:
    """Unmount a mount, or cover it if it is locked to its parent: mount_namespaces(7)."""
    try:
        calls.umount2(point, c.MNT_DETACH)
    except KernelError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
        empty_directory().attach(mount, point)
