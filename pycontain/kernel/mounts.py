"""
Mounts that are created detached, with all their attributes, and only then attached.

A detached mount (fsmount(2), open_tree(2), Linux 5.2) is reachable through its descriptor alone,
so it is never visible without its `ro` or `nosuid`, and it is attached to a descriptor, not to a
path that could be swapped.
"""

from __future__ import annotations

import errno

from ..errors import KernelError
from ..lean import os
from . import calls
from . import const as c
from .files import read_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_STRING_LIMIT = 255  # bytes: fsconfig(2) accepts no longer value


class Tree:
    """The root of a mount, or of a whole tree of mounts, by descriptor."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def clone(cls, fd: int, *, recursive: bool = False, at: str = "") -> Tree:
        """A detached copy of the mount that fd is on, with fd as its root (a bind mount)."""
        flags = c.OPEN_TREE_CLONE | c.AT_EMPTY_PATH | (c.AT_RECURSIVE if recursive else 0)
        try:
            return cls(calls.open_tree(fd, b"", flags))
        except KernelError as error:
            error.fault.at = at
            raise

    @classmethod
    def new(
        cls,
        kind: str,
        options: tuple[str, ...] = (),
        attributes: int = 0,
        source: str = "",
        pids: int = -1,
    ) -> Tree:
        """
        A detached mount of a new file system; options as mount(8) writes them.

        pids  the pid namespace that a proc file system shows, if that is not this process's own

        Raises KernelError with the file system's own message, if there is one.
        """
        try:
            context = calls.fsopen(kind) if pids < 0 else proc_context(pids)
        except KernelError as error:
            if error.errno == errno.ENODEV:
                error.fault.why = "is not a file system that this kernel supports"
            raise
        try:
            if source:
                calls.fsconfig(context, c.FSCONFIG_SET_STRING, "source", source)
            for option in options:
                _set_option(context, option)
            calls.fsconfig(context, c.FSCONFIG_CMD_CREATE)
            return cls(calls.fsmount(context, attributes))
        except KernelError as error:
            raise _explained(error, context, kind) from None
        finally:
            os.close(context)

    def set(self, on: int, off: int, *, recursive: bool = False) -> None:
        """Switch mount attributes (MOUNT_ATTR_*) on and off, off first."""
        if on or off:
            calls.mount_setattr(self.fd, set=on, clear=off, recursive=recursive)

    def clear_unless_locked(self, attributes: int) -> None:
        """
        Switch off those of these attributes (MOUNT_ATTR_*) that may be.

        A user namespace cannot take from a mount what it got from the one above:
        mount_namespaces(7), Restrictions. One call for each is needed only there.
        """
        try:
            return self.set(0, attributes)
        except KernelError as error:
            if error.errno != errno.EPERM:
                raise
        for one in _each(attributes):
            try:
                self.set(0, one)
            except KernelError as error:
                if error.errno != errno.EPERM:
                    raise

    def propagate(self, kind: int, *, recursive: bool = False) -> None:
        """Set the propagation: MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE."""
        calls.mount_setattr(self.fd, propagation=kind, recursive=recursive)

    def reconfigure(self, options: tuple[str, ...], at: str) -> None:
        """Change the options of the file system itself (mount -o remount)."""
        context = calls.fspick(self.fd)
        try:
            for option in options:
                _set_option(context, option)
            calls.fsconfig(context, c.FSCONFIG_CMD_RECONFIGURE)
        except KernelError as error:
            raise _explained(error, context, at) from None
        finally:
            os.close(context)

    def attach(self, target: int, at: str = "") -> None:
        """Mount this on the file that target is open on."""
        calls.move_mount(self.fd, target, at)


def _each(attributes: int) -> Iterator[int]:
    """Each attribute; the mode of the access times is one."""
    if attributes & c.MOUNT_ATTR__ATIME:
        yield c.MOUNT_ATTR__ATIME
    for bit in range(32):
        if attributes & ~c.MOUNT_ATTR__ATIME & 1 << bit:
            yield 1 << bit


def proc_context(pids: int) -> int:
    """A context for a proc file system that shows a pid namespace. Raises KernelError."""
    context = calls.fsopen("proc")
    try:
        calls.fsconfig(context, c.FSCONFIG_SET_FD, "pidns", other=pids)  # 6.17
    except KernelError as error:
        os.close(context)
        if error.errno != errno.EINVAL:
            raise
        from .procfs import context_from_inside  # loaded before imports are blocked

        return context_from_inside(pids)
    return context


def mounted(mountinfo: str = "/proc/self/mountinfo") -> Iterator[tuple[int, str, str, str]]:
    """
    Every mount of this namespace: (number, mount point, type, the file system's options).

    proc_pid_mountinfo(5). Only newlines end a line: names can contain other line breaks.
    """
    for line in os.fsdecode(read_bytes(mountinfo)).split("\n"):
        head, dash, tail = line.partition(" - ")
        if dash:
            number, _, _, _, point, *_ = head.split(" ")
            kind, _, options = tail.split(" ", 2)
            yield int(number), _unescaped(point), kind, options


def _unescaped(path: str) -> str:
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, letter)
    return path


def _set_option(context: int, option: str) -> None:
    key, equals, value = option.partition("=")
    if not equals:
        calls.fsconfig(context, c.FSCONFIG_SET_FLAG, key)
    else:
        calls.fsconfig(context, c.FSCONFIG_SET_STRING, key, value)


def fits(options: tuple[str, ...]) -> bool:
    """Whether fsconfig(2) accepts these options, with values of up to 255 bytes."""
    return all(len(os.fsencode(option.partition("=")[2])) <= _STRING_LIMIT for option in options)


def _explained(error: KernelError, context: int, kind: str) -> KernelError:
    """The error with what the file system logged into its context (fsopen(2))."""
    try:
        message = os.read(context, 1000).decode(errors="replace").strip()
    except OSError as unread:
        if unread.errno not in (errno.ENODATA, errno.EINVAL):
            raise
        message = ""
    fault = error.fault
    if message:
        fault.why = f"{fault.why}: {message.removeprefix('e ').removeprefix('w ')}"
    fault.at = fault.at or kind
    return error
