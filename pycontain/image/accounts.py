"""
Users and groups by name, from /etc/passwd and /etc/group of a root file system.

The files belong to the image: they are opened below its root, without following links out of it
(kernel/root.py), and only if they are ordinary files. Source: passwd(5), group(5); the OCI image
specification, conversion.md, Config.User.
"""

from __future__ import annotations

import os
import stat

from ..errors import KernelError, UsageError
from ..kernel.root import Root
from ..lean.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PASSWD, _GROUP = "/etc/passwd", "/etc/group"
_MOST = 1 << 20  # bytes of either file
_LARGEST = 2**32 - 2  # -1 means "unchanged": setresuid(2)


class Account(Record):
    """A user's ids, the supplementary groups and the home directory."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


def account(root: int, text: str) -> Account:
    """
    The account for USER[:GROUP], by name or number, in the root that a descriptor is open on.

    Without a group it is the user's own, with the supplementary groups that list the user.
    "" is user 0. Raises UsageError for a name that the files do not have.
    """
    user, colon, group = text.partition(":")
    found = _user(root, user or "0")
    name, uid, gid, home = found
    if colon and group:
        return Account(uid=uid, gid=_group(root, group), home=home)
    return Account(uid=uid, gid=gid, groups=_memberships(root, name), home=home)


def _user(root: int, wanted: str) -> tuple[str, int, int, str]:
    """(name, uid, gid, home); a number needs no entry."""
    for name, _, uid, gid, _, home, *_ in _lines(root, _PASSWD, 7):
        if (name == wanted or uid == wanted) and _is_id(uid) and _is_id(gid):
            return name, int(uid), int(gid), home if home.startswith("/") else "/"
    if _is_id(wanted):
        return "", int(wanted), 0, "/"
    raise _unknown("user", wanted, _PASSWD)


def _group(root: int, wanted: str) -> int:
    for name, _, gid, *_ in _lines(root, _GROUP, 4):
        if wanted in (name, gid) and _is_id(gid):
            return int(gid)
    if _is_id(wanted):
        return int(wanted)
    raise _unknown("group", wanted, _GROUP)


def _memberships(root: int, user: str) -> tuple[int, ...]:
    return tuple(
        int(gid)
        for _, _, gid, members, *_ in _lines(root, _GROUP, 4)
        if user and user in members.split(",") and _is_id(gid)
    )


def _unknown(kind: str, name: str, file: str) -> UsageError:
    remedy = f"give its number, or add it to {file} of the root file system"
    return UsageError(f"is not in {file}", at=kind, value=name, remedy=remedy)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= _LARGEST


def _lines(root: int, path: str, fields: int) -> Iterator[list[str]]:
    """The entries with at least so many fields, in order."""
    for line in _content(root, path).split("\n"):
        parts = line.split(":")
        if len(parts) >= fields:
            yield parts


def _content(root: int, path: str) -> str:
    """A file's text, "" if there is none. Raises UsageError if it is no ordinary file."""
    # a FIFO would block, and a device could do anything when opened
    found = Root(root).find(path)
    if found is None:
        return ""
    try:
        status = os.fstat(found)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST:
            why = f"is not an ordinary file of at most {_MOST >> 20} MiB"
            raise UsageError(why, at=path, remedy="give users and groups by number")
        with open(f"/proc/self/fd/{found}", "rb") as file:
            return file.read(_MOST).decode(errors="replace")
    except OSError as error:
        raise KernelError.of("read", error.errno or 0, path) from None
    finally:
        os.close(found)
