"""
Device files and links in /dev, created before the rootfs is "/".

Nothing is created in a directory that the host shares: where the host's /dev is mounted (also under
another name that a link of the image leads to), or where the root is the host's own.
"""

from __future__ import annotations

import _stat as stat

from ..errors import KernelError, StepError
from ..kernel import calls
from ..kernel.mounts import Tree
from ..kernel.root import Root, is_below
from ..lean import os
from ..plan import steps
from ..plan.walk import child_step
from .rootfs import real_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context

_KINDS = {"c": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


@child_step(steps.MakeDevices)
def make_devices(step: steps.MakeDevices, context: Context) -> None:
    """
    Create each device file; an existing one must be the same device, and is left unchanged.

    If /dev were a symlink into a directory of the host that is bound into the container, files
    there would be replaced (CVE-2026-41579). The descriptor that was checked is the one used.
    """
    needs_dev = any(is_below(node.path, "/dev") for node in step.nodes)
    dev = Root(real_directory("/dev", context.inside)) if needs_dev else None
    hosts_dev = dev is not None and _is_the_hosts(dev.fd, context)
    old = os.umask(0)
    directories: dict[str, int] = {}  # opened once each: most are in /dev
    for node in step.nodes:
        hosts = hosts_dev if is_below(node.path, "/dev") else context.shares_root
        if hosts:
            _require_device(node, context.inside)
            continue
        parent, _, name = node.path.rpartition("/")
        if parent not in directories:
            directories[parent] = _device_directory(parent, dev, context.inside)
        if node.path in context.trees:
            _bind_device(node, directories[parent], name, Tree(context.trees[node.path]))
        else:
            _make_device(node, directories[parent], name)
    for directory in directories.values():
        os.close(directory)
    os.umask(old)


def _is_the_hosts(directory: int, context: Context) -> bool:
    """Whether what is created in a directory is created on the host, outside of the rootfs."""
    mount = calls.mount_id(directory)
    if mount == calls.mount_id(context.inside.fd):
        return context.shares_root
    return all(mount != calls.mount_id(fd) for fd in context.filesystems)


def _require_device(node: steps.DeviceNode, inside: Root) -> None:
    """A device file of the host is used as it is; a default one may be missing."""
    file = inside.find(node.path, os.O_PATH | os.O_NOFOLLOW)
    if file is not None:
        _check_device(node, os.fstat(file))
        os.close(file)
    elif node.at:
        raise StepError(
            "would be created on the host",
            at=node.at,
            value=node.path,
            remedy='add {"type": "mount"} to linux.namespaces, and mount a tmpfs on /dev',
        )


def _device_directory(path: str, dev: Root | None, inside: Root) -> int:
    if dev is not None and is_below(path, "/dev"):
        return dev.make_directory(path.removeprefix("/dev"))
    return inside.make_directory(path)


def _make_device(node: steps.DeviceNode, directory: int, name: str) -> None:
    device = os.makedev(node.major, node.minor) if node.type != "p" else 0
    try:
        os.mknod(name, _KINDS[node.type] | node.mode, device, dir_fd=directory)
    except FileExistsError:
        return _check_device(node, os.lstat(name, dir_fd=directory))
    except OSError as error:
        raise KernelError.of("mknod", error.errno or 0, node.path) from None
    if node.uid or node.gid:
        os.chown(name, node.uid, node.gid, dir_fd=directory, follow_symlinks=False)


def _bind_device(node: steps.DeviceNode, directory: int, name: str, tree: Tree) -> None:
    """Mount a device file that the parent has prepared on a file that exists or is created."""
    root = Root(directory)
    file = root.find(name, os.O_PATH | os.O_NOFOLLOW)
    if file is None:
        file = root.make_file(name)
    if stat.S_ISREG(os.fstat(file).st_mode):
        tree.attach(file, node.path)
    else:
        _check_device(node, os.fstat(file))
    os.close(file)


def _check_device(node: steps.DeviceNode, status: os.stat_result) -> None:
    device = os.makedev(node.major, node.minor)
    if stat.S_IFMT(status.st_mode) != _KINDS[node.type] or (
        node.type != "p" and status.st_rdev != device
    ):
        raise StepError(
            f"exists and is not the device {node.type} {node.major}:{node.minor}",
            at=node.path,
            remedy="remove it from the rootfs",
        )


@child_step(steps.LinkDevices)
def link_devices(step: steps.LinkDevices, context: Context) -> None:
    """Create the links of /dev, unless it is the host's; existing ones are kept, except ptmx."""
    directory = real_directory("/dev", context.inside)
    if _is_the_hosts(directory, context):
        return
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
