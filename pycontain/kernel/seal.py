"""
An interpreter that no container can overwrite.

While a container's first process is still Python, its /proc/self/exe is the interpreter's file. A
program that is the script `#!/proc/self/exe` gets hold of that file, waits until pycontain has
ended, and writes to it: the next Python of the host is the attacker's (CVE-2019-5736).

So the interpreter runs from a mount that is read-only for good: an overlay without an upper layer,
which even root cannot make writable. It is made once and stays until the next boot, and costs
nothing from then on. Where overlayfs is missing the interpreter runs from a sealed memfd
(memfd_create(2)), copied at every start.
"""

from __future__ import annotations

import sys

from ..errors import HostError, KernelError
from ..lean import os
from . import calls
from . import const as c
from .mounts import Tree

_BASE = "/var/lib/pycontain/python"
_PIECE = 1 << 20


def place(interpreter: str) -> str:
    """
    Where an interpreter (an absolute path without links) is found sealed.

    Before the mount is made this is a link to the interpreter itself, so that the path can stand in
    the first line of a script in any case.
    """
    folder, name = os.path.split(interpreter)
    return os.path.join(_BASE, folder.replace("%", "%%").replace("/", "%"), name)


def prepare(interpreter: str) -> str:
    """Make the link at an interpreter's sealed place, which is returned. Raises OSError."""
    sealed = place(interpreter)
    os.makedirs(os.path.dirname(sealed))
    if not os.path.lexists(sealed):
        os.symlink(interpreter, sealed)
    return sealed


def is_sealed() -> bool:
    """Whether this very process runs from a sealed file."""
    name = os.readlink("/proc/self/exe")
    if name.startswith("/memfd:pycontain"):
        return True
    return name.startswith(_BASE) and _is_overlay(name)


def _is_overlay(path: str) -> bool:
    """Whether a path is on our overlay: that of a whole root file system can be written to."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        read_only = bool(os.fstatvfs(fd).f_flag & os.ST_RDONLY)
        return read_only and calls.filesystem_type(fd) == c.OVERLAYFS_SUPER_MAGIC
    finally:
        os.close(fd)


def ensure() -> None:
    """
    Return when this process is sealed; otherwise begin it again from a sealed interpreter.

    Raises HostError where there is neither overlayfs nor memfd_create.
    """
    if not is_sealed():
        from ..lean import archive

        path = interpreter()
        os.execv(path, archive.command(path, archive.PROGRAM, *sys.argv[1:]))


def interpreter() -> str:
    """The path of a sealed interpreter of this Python's version, made when it is missing."""
    from os.path import realpath

    own = realpath(sys.executable)
    try:
        return mounted(own)
    except (KernelError, OSError):
        return f"/proc/self/fd/{_copy(own)}"


def mounted(own: str) -> str:
    """
    The sealed place of an interpreter, with the overlay mounted.

    One that is sealed already stays where it is. Raises KernelError, OSError.
    """
    if own.startswith(_BASE):
        return own
    sealed = prepare(own)
    folder = os.open(os.path.dirname(sealed), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    calls.lock(folder)  # of two first invocations one mounts
    try:
        if not _is_overlay(os.path.dirname(sealed)):
            # without an upper layer overlayfs wants two lower ones; the second hides nothing
            layers = f"lowerdir={os.path.dirname(own)}:{_BASE}"
            tree = Tree.new("overlay", (layers,), c.MOUNT_ATTR_RDONLY | c.MOUNT_ATTR_NODEV)
            tree.attach(folder, sealed)
            os.close(tree.fd)
    finally:
        os.close(folder)
    return sealed


def _copy(own: str) -> int:
    """A sealed copy of the interpreter in memory. Raises HostError."""
    import fcntl

    try:
        fd = os.memfd_create("pycontain", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    except OSError as error:
        raise HostError(
            f"cannot be sealed: {os.strerror(error.errno or 0).lower()}",
            at=own,
            remedy="run a kernel with overlayfs or memfd_create",
        ) from None
    source = os.open(own, os.O_RDONLY | os.O_CLOEXEC)
    while os.sendfile(fd, source, None, _PIECE):
        pass
    os.close(source)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    os.fchmod(fd, 0o755)
    return fd
