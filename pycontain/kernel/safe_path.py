"""
Files in places where other users must not decide what a path leads to.

A path is as safe as its directories: anyone who can write to one of them can put a link, or
another directory, in the place of the next, also between our check and our use (CVE-2022-21658 was
such a race). So a directory that we fill and empty is opened step by step from "/", and is ours if

- "/", every directory of the path and the last one belong to root or to us, the effective user: an
  owner can always grant write permission;
- neither group nor others can write to any of them, except that one before the last may be sticky,
  as /tmp is: only the owners of an entry and of the directory can rename or remove the entry
  (unlink(2), EPERM), and both are root or we. An ACL cannot permit more than the bits of the group
  show (acl(5), "Correspondence between ACL entries and file permission bits");
- the group may write if it is our private one: systems that give each user one set the umask of
  such users to 002 (login.defs(5), USERGROUPS_ENAB). Never root's: many processes have the group 0
  without being root, and root's umask is another;
- in a user namespace root of the host, like everybody who is not mapped, is seen as "nobody": the
  user who chooses a place for the state there answers for where it is;
- links are in directories that nobody else can write to, and lead through such directories;
- no directory is the root of a file system mounted right below a sticky directory: a user who
  mounts one there (fuse(4)) decides which owner it reports.

What is done below its descriptor is then done there, whatever happens to the path.
"""

from __future__ import annotations

import _stat as stat
import errno

from ..errors import HostError, KernelError
from ..lean import os
from .files import read_bytes
from .rights import in_user_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS_FOLLOWED = 40  # as path_resolution(7) allows
_ROOT = 0
_NOBODY = 65534  # /proc/sys/kernel/overflowuid


class Directory:
    """
    A descriptor of a directory, closed with the last reference to this object at the latest.

    What fails closes it before: a traceback, which refers to it, may be kept for long.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self, close_fd: Callable[[int], None] = os.close) -> None:
        """Close it now; a second call does nothing. The default outlives this module's names."""
        fd, self.fd = self.fd, -1  # as in `descriptors`
        if fd >= 0:
            close_fd(fd)

    __del__ = close


def writable_by_others(status: os.stat_result) -> bool:
    """Whether the permissions let anybody but the owner write."""
    return bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _is_own_group(group: int) -> bool:
    """
    Whether a group is the effective user's own, with the user's number and no other member.

    Members are looked for in the host's files; other name services are not queried, since that
    would load their code.
    """
    us = os.geteuid()
    if us == _ROOT or not us == group == os.getegid():
        return False
    try:
        users, groups = _entries("/etc/passwd"), _entries("/etc/group")
    except KernelError:
        return False  # nobody knows
    number = str(group).encode()
    ours = {name for name, _, user, *_ in users if user == number}
    members = [name for name, _, _, group, *_ in users if group == number]
    for _, _, gid, names, *_ in groups:
        members += names.split(b",") if gid == number else []
    return ours.issuperset(filter(None, members))


def _entries(path: str) -> list[list[bytes]]:
    """The entries of passwd(5) or group(5) that have the first four fields, which are alike."""
    lines = (line.split(b":") for line in read_bytes(path).splitlines())
    return [fields for fields in lines if len(fields) >= 4]


def open_directory(path: str, *, create: bool = False) -> Directory:
    """
    Open a directory that is ours; with create, it and its parents are created if missing (0700).

    Raises HostError that names the directory that is not ours, and KernelError.
    """
    ahead = _names(path if path.startswith("/") else f"{os.getcwd()}/{path}")
    walk = _Walk()
    try:
        walk.check()
        while ahead:
            name = ahead.pop()
            if not walk.enter(name, create=create):
                target = walk.link(name)
                if target.startswith("/"):
                    walk.restart()
                ahead += _names(target)
        walk.end()
    except BaseException:
        walk.here.close()
        raise
    return walk.here


def open_named(path: str, flags: int, mode: int = 0o666) -> int:
    """
    Open a file at a path that our caller has named; its directories are the caller's business.

    A link at its end is followed only in a directory that is ours: elsewhere another user may have
    put it there. Raises HostError, KernelError and OSError.
    """
    flags |= os.O_CLOEXEC
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW, mode)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    else:
        if not (flags & os.O_PATH and stat.S_ISLNK(os.fstat(fd).st_mode)):
            return fd
        os.close(fd)
    directory, name = os.path.split(path)
    try:
        above = open_directory(directory)
    except HostError as error:
        why = f"is a link that another user could have put there: {error}"
        raise HostError(why, at=path, remedy="name the file itself") from None
    try:
        return os.open(name, flags, mode, dir_fd=above.fd)
    finally:
        above.close()


class _Walk:
    """
    A way down from "/".

    here    the directory that it has come to
    status  that directory's
    shared  whether others can write to it
    """

    def __init__(self) -> None:
        self._us = os.geteuid()
        # to a user namespace, the host's root is one of those who are not mapped
        self._roots = (_ROOT, _NOBODY) if in_user_namespace() else (_ROOT,)
        self._links = 0
        self.restart()

    def restart(self) -> None:
        """Go to "/"."""
        self._go(Directory(os.open("/", _DIRECTORY)))

    def _go(self, to: Directory) -> None:
        self.here, self.status = to, os.fstat(to.fd)
        self.shared = writable_by_others(self.status) and not self._is_private()

    def _is_private(self) -> bool:
        """Whether only we are among those whom the bits for the group, and no ACL, let write."""
        if self.status.st_mode & stat.S_IWOTH or not _is_own_group(self.status.st_gid):
            return False
        try:
            names = os.listxattr(f"/proc/self/fd/{self.here.fd}")
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            return True  # a file system without ACLs
        return not any(name.startswith("system.") for name in names)

    def enter(self, name: str, *, create: bool) -> bool:
        """Go to a directory in this one; False if it is not a directory, but may be a link."""
        try:
            inner = self._open(name, create)
        except NotADirectoryError:
            return False
        except OSError as error:
            raise KernelError.of("open", error.errno or 0, self._place(name)) from None
        above, was_shared = self.status, self.shared
        self._go(inner)
        self.check()
        mounted = above.st_dev != self.status.st_dev and name != ".."
        if mounted and was_shared:
            why = "is a file system mounted in a directory that other users can write to"
            raise HostError(why, at=self._place())
        return True

    def link(self, name: str) -> str:
        """The target of a link in this directory. Raises KernelError if it is none."""
        self._links += 1
        if self._links > _LINKS_FOLLOWED:
            raise KernelError.of("open", errno.ELOOP, self._place(name))
        try:
            target = os.readlink(name, dir_fd=self.here.fd)
        except OSError:
            raise KernelError.of("open", errno.ENOTDIR, self._place(name)) from None
        if self.shared:
            why = "is a link in a directory that other users can write to"
            raise HostError(why, at=self._place(name))
        return target

    def end(self) -> None:
        """Raises HostError if others can write to this last directory, sticky or not."""
        if self.shared:
            raise self._writable()

    def _open(self, name: str, create: bool) -> Directory:
        try:
            return Directory(os.open(name, _DIRECTORY, dir_fd=self.here.fd))
        except FileNotFoundError:
            if not create:
                raise
        try:
            os.mkdir(name, 0o700, dir_fd=self.here.fd)
        except FileExistsError:  # another process was faster; whose it is will be checked
            pass
        return Directory(os.open(name, _DIRECTORY, dir_fd=self.here.fd))

    def check(self) -> None:
        """Raises HostError if this directory is not ours; it may be sticky."""
        status = self.status
        if status.st_uid not in (*self._roots, self._us):
            ours = "root" if self._us == _ROOT else f"root or user {self._us}"
            why = f"belongs to user {status.st_uid}, not to {ours}"
            raise HostError(why, at=self._place())
        if self.shared and not status.st_mode & stat.S_ISVTX:
            raise self._writable()

    def _writable(self) -> HostError:
        place = self._place()
        remedy = f"remove that permission (chmod go-w {place})"
        return HostError("can be written to by other users", at=place, remedy=remedy)

    def _place(self, name: str = "") -> str:
        path = os.readlink(f"/proc/self/fd/{self.here.fd}")
        return os.path.join(path, name) if name else path


def _names(path: str) -> list[str]:
    """The names in a path, the last one first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]
