"""The steps of a child without a mount namespace."""

from __future__ import annotations

from ..errors import StepError
from ..kernel.root import Root
from ..lean import os
from ..plan.steps import host_mounts
from ..plan.walk import child_step
from .rootfs import open_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context


@child_step(host_mounts.OpenRoot)
def open_root(step: host_mounts.OpenRoot, context: Context) -> None:
    """Use the rootfs where it is: without a mount namespace nothing is mounted."""
    rootfs = open_host(step.path)
    context.root = Root(rootfs)
    context.shares_root = os.path.samestat(os.fstat(rootfs), os.fstat(open_host("/")))


@child_step(host_mounts.ChangeDirectoryRoot)
def change_directory_root(step: host_mounts.ChangeDirectoryRoot, context: Context) -> None:
    """Without a mount namespace, only chroot(2) is possible."""
    rootfs = open_host(step.path)
    os.fchdir(rootfs)
    os.chroot(".")
    context.root = Root(rootfs)
    context.close_others()


@child_step(host_mounts.RequireMissing)
def require_missing(step: host_mounts.RequireMissing, context: Context) -> None:
    """Refuse the first path that exists: only a mount on the host would protect or hide it."""
    for path, at in step.paths:
        if context.inside.find(path) is not None:
            raise StepError(
                "would be mounted over on the host without a mount namespace",
                at=at,
                value=path,
                remedy='add {"type": "mount"} to linux.namespaces',
            )
