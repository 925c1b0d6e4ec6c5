"""
Names of users and groups, from the container's own files. passwd(5), group(5).

They are read through the root directory of the first process, which no path can leave, and parsed
here: the C library's look-up would load the container's name services into this process. A number
is never looked up, since a file could contain a user of that name (CVE-2016-3697).
"""

from __future__ import annotations

import _stat as stat

from ..errors import KernelError, UsageError
from ..kernel.root import Root
from ..lean import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan.request import ExecRequest
    from .handle import Handle

_LIMIT = 1 << 20  # bytes of a file


def is_numeric(user: str) -> bool:
    """Whether a user UID[:GID] contains no name."""
    parts = user.split(":")
    return not user or (len(parts) <= 2 and all(_is_number(part) for part in parts))


def resolved(container: Handle, request: ExecRequest) -> ExecRequest:
    """
    A request with numbers for the names in its user NAME[:GROUP].

    A user known by name gets its own group, and the further groups that list it. Raises
    UsageError for a name that the container does not know, and StateError if it is not running.
    """
    name, colon, group = request.user.partition(":")
    root = _root(container)
    try:
        user = _entry(_lines(root, "/etc/passwd"), name)
        groups = _lines(root, "/etc/group")
    finally:
        os.close(root.fd)
    uid = name if _is_number(name) else _field(user, 2, "user", name)
    if colon:
        gid = group if _is_number(group) else _field(_entry(groups, group), 2, "group", group)
        return request.replace(user=f"{uid}:{gid}")
    more = tuple(int(fields[2]) for fields in groups if _lists(fields, name))
    return request.replace(user=f"{uid}:{_field(user, 3, 'user', name)}", additional_gids=more)


def _root(container: Handle) -> Root:
    """The root directory of the first process. proc(5), /proc/PID/root."""
    path = f"/proc/{container.state.pid}/root"
    try:
        root = Root(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError:
        raise container.wrong_status("stopped") from None
    if not container.alive:  # checked after opening: the pid may be another process's by now
        os.close(root.fd)
        raise container.wrong_status("stopped")
    return root


def _lines(root: Root, path: str) -> list[list[str]]:
    """The fields of each line of a regular file; none if there is no such file."""
    try:
        fd = root.find(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except KernelError:
        return []
    if fd is None:
        return []
    try:
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
        text = os.read(fd, _LIMIT).decode(errors="surrogateescape") if regular else ""
    finally:
        os.close(fd)
    return [line.split(":") for line in text.split("\n")]


def _entry(lines: list[list[str]], name: str) -> list[str]:
    """The first line of a name, empty if there is none."""
    return next((fields for fields in lines if fields[0] == name), [])


def _field(entry: list[str], index: int, what: str, name: str) -> str:
    if len(entry) > index and _is_number(entry[index]):
        return entry[index]
    raise UsageError(
        f"is not a {what} of the container",
        at="user",
        value=repr(name),
        remedy=f"use a number, or one of /etc/{'passwd' if what == 'user' else 'group'}",
    )


def _lists(group: list[str], name: str) -> bool:
    return len(group) > 3 and name in group[3].split(",") and _is_number(group[2])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()
