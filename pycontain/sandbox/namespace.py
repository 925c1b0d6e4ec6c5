"""
The mount namespace of a sandbox, which no process is in while nothing runs.

It holds what all containers of the sandbox share, below a directory that is empty on the host:

    /var/lib/pycontain/files      the file system in memory of `sandbox.files`
        work tmp shm              the files
        root                      of an image or directory: its content, read-only
            work tmp proc …       and empty directories to mount on

The host never sees these mounts, which end with the last container and the descriptor of the
namespace; nothing is created in the image.
"""

from __future__ import annotations

import os
import threading

from ..errors import HostError, reason
from ..kernel import calls
from ..kernel import const as c
from ..kernel.descriptors import close_owned
from ..kernel.mounts import Tree
from ..kernel.safe_path import open_directory
from .configure import MOST_PACKAGES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .files import Files

PLACE = "/var/lib/pycontain/files"
ROOT = f"{PLACE}/root"
_OURS = ("dev", "proc", "run", "sys", "tmp", "work", "packages")
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_ATTRIBUTES = c.MOUNT_ATTR_RDONLY | c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NODEV


class Namespace:
    """
    A mount namespace in which a sandbox's files are mounted.

    fd  its descriptor
    """

    def __init__(self, files: Files, rootfs: str = "") -> None:
        """
        Make it; with a root file system, ROOT shows that.

        Raises HostError if others than root could change PLACE or if there is no such root file
        system, and KernelError.
        """
        open_directory(PLACE, create=True).close()
        self.fd = -1
        self._error: BaseException | None = None
        # a thread enters it for good: namespaces and the working directory are each thread's own
        thread = threading.Thread(target=self._make, args=(files.fd, rootfs))
        thread.start()
        thread.join()
        if self._error is not None:
            raise self._error

    def _make(self, files: int, rootfs: str) -> None:
        try:
            calls.unshare(c.CLONE_NEWNS)
            slash = os.open("/", os.O_PATH | os.O_CLOEXEC)
            place = os.open(PLACE, os.O_PATH | os.O_CLOEXEC)
            try:
                Tree(slash).propagate(c.MS_PRIVATE, recursive=True)
                Tree(files).attach(place)
            finally:
                os.close(slash)
                os.close(place)
            if rootfs:
                _show(rootfs)
            self.fd = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        except BaseException as error:
            self._error = error

    def close(self) -> None:
        """Give it up."""
        close_owned(self, "fd")


def _show(rootfs: str) -> None:
    """Mount each entry of a root file system in a directory of ours, which has more entries."""
    try:
        source = os.open(rootfs, _OPEN_DIRECTORY)
    except OSError as error:
        raise HostError(reason(error.errno or 0), at="rootfs", value=rootfs) from None
    os.mkdir(ROOT)
    os.chmod(ROOT, 0o755)
    target = os.open(ROOT, _OPEN_DIRECTORY)
    try:
        for name in _OURS:
            os.mkdir(name, 0o755, dir_fd=target)
        for number in range(MOST_PACKAGES):
            os.mkdir(f"packages/{number}", 0o755, dir_fd=target)
        with os.scandir(source) as entries:
            for entry in entries:
                if entry.name not in _OURS:
                    _show_entry(entry, source, target)
    finally:
        os.close(source)
        os.close(target)


def _show_entry(entry: os.DirEntry[str], source: int, target: int) -> None:
    name = entry.name
    if entry.is_symlink():
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        return
    if entry.is_dir(follow_symlinks=False):
        os.mkdir(name, dir_fd=target)
    elif entry.is_file(follow_symlinks=False):
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target))
    else:
        return  # a device, a FIFO or a socket
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    place = os.open(name, flags, dir_fd=target)
    found = os.open(name, flags, dir_fd=source)
    try:
        tree = Tree.clone(found)
        try:
            tree.set(_ATTRIBUTES, 0)
            tree.attach(place)
        finally:
            os.close(tree.fd)
    finally:
        os.close(place)
        os.close(found)
