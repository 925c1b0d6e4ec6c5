"""
An interpreter that no container can overwrite.

While a container's first process is still Python, its /proc/self/exe is the interpreter's file. A
program that is the script `#!/proc/self/exe` opens that file, waits until pycontain has exited, and
writes to it: the host's next Python is then the attacker's (CVE-2019-5736).

So the interpreter runs from a copy in a mount that stays read-only: an overlay without an upper
layer, which even root cannot make writable. The directory above it is root's alone. The copy is
made once (`sealed_copy`), and again when a file that it was made from has changed; otherwise it
lasts until the next boot and costs nothing. Where that is impossible the interpreter runs from a
sealed memfd (memfd_create(2)), copied at every start.
"""

from __future__ import annotations

import sys

from ..errors import HostError, KernelError
from ..lean import os
from . import calls
from . import const as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import stat_result

BASE = "/var/lib/pycontain/sealed"
PROGRAM = "pycontain"  # the interpreter's name there, which ps(1) shows
RECORD = "sources"  # a link whose text is the list of sources

_FLAGS = os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV


def place(interpreter: str) -> str:
    """The sealed path of an interpreter, which is an absolute path without links."""
    name = interpreter.replace("%", "%25").replace("/", "%2F")
    return f"{BASE}/{name}/{PROGRAM}"


def source(sealed: str) -> str:
    """The interpreter that is sealed at this path: the inverse of `place`."""
    name = os.path.split(os.path.dirname(sealed))[1]
    return name.replace("%2F", "/").replace("%25", "%")


def is_needed() -> bool:
    """Whether this user, whom a container's root may be, can write to the interpreter."""
    return os.geteuid() == 0 or os.access("/proc/self/exe", os.W_OK)


def is_sealed() -> bool:
    """Whether this process runs from a sealed copy of what the interpreter is now."""
    name = os.readlink("/proc/self/exe")
    if name.startswith("/memfd:pycontain"):
        return True
    return name.startswith(f"{BASE}/") and is_current(os.path.dirname(name))


def is_current(directory: str) -> bool:
    """Whether a sealed copy is mounted here, and none of its sources has changed since."""
    try:
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if not is_overlay(fd, _FLAGS):
            return False
        entries = os.readlink(RECORD, dir_fd=fd).split("//")  # no path without links contains it
        return all(_is_unchanged(entry) for entry in entries)
    except OSError:  # a source has been removed
        return False
    finally:
        os.close(fd)


def is_overlay(fd: int, flags: int = os.ST_RDONLY) -> bool:
    """Whether a file is on an overlay with these flags: one of a root file system is writable."""
    present = os.fstatvfs(fd).f_flag & flags
    return present == flags and calls.filesystem_type(fd) == c.OVERLAYFS_SUPER_MAGIC


def entry(path: str, status: stat_result) -> str:
    """A source in the record: device:inode:size:mtime:path, the time in nanoseconds."""
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{path}"


def _is_unchanged(recorded: str) -> bool:
    path = recorded.split(":", 4)[4]
    return entry(path, os.stat(path)) == recorded


def own() -> str:
    """
    The interpreter that runs this process: its file, for sys.executable can be a script around it.

    If that is a sealed copy, which may have been detached since, it is what was copied.
    """
    path = os.readlink("/proc/self/exe")
    if path.startswith(f"{BASE}/") or not _is_running(path):
        return sys.executable
    return path


def _is_running(path: str) -> bool:
    return os.path.exists(path) and os.path.samefile(path, "/proc/self/exe")


def ensure() -> None:
    """
    Return if this process is sealed; otherwise restart it with a sealed interpreter.

    Raises HostError if there is neither overlayfs nor memfd_create.
    """
    if not is_sealed():
        from ..lean import archive

        # the ordinary path as the first argument: Python finds its standard library from there.
        # The C library's environment still has what Python has added to it
        command = archive.command(own(), archive.PROGRAM, *sys.argv[1:])
        os.execve(interpreter(), command, os.environ)


def interpreter() -> str:
    """
    The path of a sealed interpreter, the one that runs this process; created if missing.

    Raises HostError as `ensure`.
    """
    from . import sealed_copy

    try:
        return sealed_copy.mounted(own())
    except (HostError, KernelError, OSError):
        return f"/proc/self/fd/{sealed_copy.in_memory(own())}"


def mounted(path: str) -> str:
    """
    The path of the sealed copy of an interpreter, mounted when it was not or has become outdated.

    Raises HostError if others than root could have changed the place, KernelError, OSError.
    """
    from . import sealed_copy

    return sealed_copy.mounted(path)
