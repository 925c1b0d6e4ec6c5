"""
The files that a program in the VM is shown: a root, volumes, or nothing but the program itself.

Each place (the root, a volume, the program) is a descriptor, and the kernel resolves a path below
it (openat2(2), RESOLVE_IN_ROOT). Nothing leads out of a place, so a link is followed within its own
volume, and beside volumes `..` is resolved by name. Without a root, `/` and what leads to the
places are folders that exist only here and contain only these.

A file is looked at before it is opened: with O_PATH no device is opened, and no process that waits
at a FIFO is woken. What is opened then is the file that was looked at, by its descriptor.
"""

from __future__ import annotations

import errno
import os
import stat

from ..errors import KernelError, ProgramError, UsageError, reason
from ..kernel import const as c
from ..kernel.calls import filesystem_type, openat2
from ..kernel.descriptors import close_owned
from ..kernel.mounts import Tree
from ..lean.record import Record
from .owned import Owned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

_RULES = c.RESOLVE_IN_ROOT | c.RESOLVE_NO_MAGICLINKS
_OPENED = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# File systems that show the kernel, the monitor or other processes instead of files: proc, sysfs,
# debugfs, tracefs, securityfs, both cgroups, bpf, efivarfs, pstore, selinuxfs, smackfs, apparmor,
# binfmt_misc, nsfs, resctrl, devpts, xenfs, usbfs, binderfs (all in <linux/magic.h>); mqueue,
# fusectl, configfs, nfsd, rpc_pipefs. There is no common mark: statfs(2) shows only the number.
_KERNEL_FILES = frozenset((
    c.PROC_SUPER_MAGIC, c.SYSFS_MAGIC, 0x6462_6720, 0x7472_6163, 0x7363_6673, 0x27_E0EB,
    c.CGROUP2_SUPER_MAGIC, 0xCAFE_4A11, 0xDE5E_81E4, 0x6165_676C, 0xF97C_FF8C, 0x4341_5D53,
    0x5A3C_69F0, 0x4249_4E4D, 0x6E73_6673, 0x765_5821, c.DEVPTS_SUPER_MAGIC, 0xABBA_1974, 0x9FA2,
    0x6C6F_6F70, 0x1980_0202, 0x6573_5543, 0x6265_6570, 0x6E66_7364, 0x6759_6969,
))  # fmt: skip
_SHM = b"/dev/shm"
_SETID = stat.S_ISUID | stat.S_ISGID
_BLOCK = 4096
PROGRAM = 1 << 20  # inode numbers: the program's, then those of its streams; folders start at 1


class Volume(Record):
    """
    A directory or regular file of this host that a program is shown.

    host      its path on this host
    guest     the absolute path where the program finds it
    writable  whether the program can create files in it and write to them
    """

    host: str
    guest: str
    writable: bool = False


class _Place:
    """What is put at a path of the view; number as in Found."""

    __slots__ = ("fd", "number", "writable")

    def __init__(self, fd: int, *, writable: bool = False, number: int = 0) -> None:
        self.fd = fd
        self.writable = writable
        self.number = number


class Found:
    """
    A file that was looked at, and not opened; a context manager.

    fd        an O_PATH descriptor, or -1 for a folder of the view
    info      its status, as the program is shown it
    number    its inode number, if the program is not shown the host's; otherwise 0
    writable  whether it can be written, or a file be created in it
    names     what the folder contains
    place     what identifies the volume it is in
    """

    __slots__ = ("fd", "info", "names", "number", "place", "writable")

    def __init__(
        self, fd: int, info: os.stat_result, number: int, *, writable: bool = False,
        names: Sequence[bytes] = (), place: object = None,
    ) -> None:  # fmt: skip
        self.place = place
        self.fd = fd
        self.info = info
        self.number = number
        self.writable = writable
        self.names = names

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        close_owned(self, "fd")

    def open(self, flags: int) -> int:
        """
        Open this file, if it is a directory or a regular file; returns a descriptor.

        flags is the access mode, O_TRUNC and O_APPEND. A file that runs with the rights of its
        owner is not written: its new content would. Raises OSError.
        """
        mode = self.info.st_mode
        if stat.S_ISLNK(mode):
            raise OSError(errno.ELOOP, "")
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise OSError(errno.EACCES, "")
        if flags & (os.O_ACCMODE | os.O_TRUNC):
            if not self.writable:
                raise OSError(errno.EROFS, "")
            if stat.S_ISREG(mode) and mode & _SETID:
                raise OSError(errno.EPERM, "")
        return os.open(f"/proc/self/fd/{self.fd}", flags | _OPENED)

    def take(self) -> int:
        """The descriptor, which the caller closes from now on."""
        fd, self.fd = self.fd, -1
        return fd


class _Entry:
    """A directory and a name in it; a context manager that closes the directory."""

    def __init__(self, folder: Found, name: bytes) -> None:
        self.folder = folder
        self.name = name

    def __enter__(self) -> tuple[Found, bytes]:
        return self.folder, self.name

    def __exit__(self, *_: object) -> None:
        close_owned(self.folder, "fd")


class View:
    """
    What a program finds at each path.

    root is a directory of this host, read-only unless writable, or "" for nothing. If it has a
    /dev/shm, and this process may mount, that is empty and takes so many bytes. Raises UsageError
    for a root or volume that cannot be used.
    """

    def __init__(
        self,
        root: str = "",
        volumes: Sequence[Volume] = (),
        *,
        writable: bool = False,
        shared_memory: int = 0,
    ) -> None:
        self._owned = Owned()
        self._places: dict[bytes, _Place] = {}  # by normal path, "" for the root
        self._folders: dict[bytes, list[bytes]] = {} if root else {b"": []}
        self._simple = bool(root) and not volumes
        try:
            if root:
                self._add_root(root, writable)
            for volume in sorted(volumes, key=lambda volume: _normal(os.fsencode(volume.guest))):
                self._add_volume(volume)
            if root and shared_memory and _SHM not in self._places:
                self._add_shared_memory(shared_memory)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all places."""
        self._owned.close()

    # --- what is in it -------------------------------------------------------------------------

    def _add_root(self, path: str, writable: bool) -> None:
        fd = self._open_host(path, "root", os.O_DIRECTORY)
        self._places[b""] = _Place(fd, writable=writable)

    def _add_volume(self, volume: Volume) -> None:
        path = _normal(os.fsencode(volume.guest))
        shown = f"{volume.host}:{volume.guest}"
        if not volume.guest.startswith("/") or not path:
            raise UsageError(
                "does not name an absolute path below / in the guest", at="volume", value=shown
            )
        if path in self._places:
            raise UsageError("has the place of another volume", at="volume", value=shown)
        fd = self._open_host(volume.host, "volume")
        kind = stat.S_IFMT(os.fstat(fd).st_mode)
        if kind not in (stat.S_IFDIR, stat.S_IFREG):
            raise UsageError("is neither a directory nor a regular file", at="volume", value=shown)
        if self._place(path)[0]:
            self._check_mount_point(path, kind, shown)
        self._put(path, _Place(fd, writable=volume.writable))

    def _add_shared_memory(self, size: int) -> None:
        """What shm_open(3) and sem_open(3) need: a file system of its own, with a limit."""
        try:
            with self.find(_SHM, os.O_DIRECTORY):
                options = (f"size={size}", "nr_inodes=1024", "mode=1777")
                made = Tree.new("tmpfs", options, c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NODEV)
        except (OSError, KernelError):
            return
        self._put(_SHM, _Place(self._owned.keep_fd(made.fd), writable=True))

    def _check_mount_point(self, path: bytes, kind: int, shown: str) -> None:
        """As mount(2): a volume inside the root or another volume covers a file of its kind."""
        try:
            with self.find(path) as found:
                same = stat.S_IFMT(found.info.st_mode) == kind
        except (OSError, KernelError):
            same = False
        if not same:
            raise UsageError(
                "has no place: its path in the guest is not a file of the same kind there",
                at="volume", value=shown, remedy="create it in the root",
            )  # fmt: skip

    def _open_host(self, path: str, at: str, flags: int = 0) -> int:
        try:
            fd = self._owned.keep_fd(os.open(path, flags | os.O_PATH | os.O_CLOEXEC))
        except OSError as error:
            why = "is not a directory that can be opened" if flags else reason(error.errno or 0)
            raise UsageError(why, at=at, value=path, errno=error.errno or 0) from None
        if filesystem_type(fd) in _KERNEL_FILES:
            raise UsageError("shows the kernel, not files", at=at, value=path)
        return fd

    def _put(self, path: bytes, place: _Place) -> None:
        """Add a place, and the folders that lead to it unless another place contains it."""
        covered = self._place(path)[0]
        self._places[path] = place
        while path and not covered:
            path, _, name = path.rpartition(b"/")
            names = self._folders.setdefault(path, [])
            if name in names:
                return
            names.append(name)

    def places(self) -> list[tuple[int, bool]]:
        """For the jail: descriptors of the root, the volumes, the program; whether writable."""
        return [(place.fd, place.writable) for place in self._places.values()]

    # --- looking -------------------------------------------------------------------------------

    def find(self, path: bytes, flags: int = 0) -> Found:
        """
        Look at the file at an absolute path; flags are O_NOFOLLOW and O_DIRECTORY.

        Raises OSError or KernelError, with EACCES for what shows the kernel instead of files.
        """
        if path.endswith((b"/", b"/.")):
            flags |= os.O_DIRECTORY
        place, rest = self._place(path)
        if place is None:
            return self._folder(rest)
        if rest:
            fd = openat2(place.fd, rest, flags | os.O_PATH, _RULES)
        else:
            fd = os.open(f"/proc/self/fd/{place.fd}", flags & os.O_DIRECTORY | os.O_PATH)
        try:
            if filesystem_type(fd) in _KERNEL_FILES:
                raise OSError(errno.EACCES, "")
            info = status(fd, place.number)
        except BaseException:
            os.close(fd)
            raise
        return Found(fd, info, place.number, writable=place.writable, place=place)

    def _place(self, path: bytes) -> tuple[_Place | None, bytes]:
        """The innermost place that contains a path, and the rest of the path."""
        if self._simple:  # the kernel resolves `..`
            if path.startswith(_SHM) and path[8:9] in (b"", b"/") and _SHM in self._places:
                return self._places[_SHM], path[9:]
            return self._places[b""], path
        head = whole = _normal(path)
        while head not in self._places:
            if not head:
                return None, whole
            head = head.rpartition(b"/")[0]
        return self._places[head], whole[len(head) + 1 :] or (b"" if head else b"/")

    def _folder(self, path: bytes) -> Found:
        names = self._folders.get(path)
        if names is None:
            raise OSError(errno.ENOENT, "")
        number = 1 + list(self._folders).index(path)
        return Found(-1, made_status(stat.S_IFDIR | 0o555, 0, number), number, names=names)

    def create(self, path: bytes, flags: int, mode: int) -> int:
        """
        Create a regular file where there is none, open it, and return its descriptor.

        It never runs with the rights of its owner, who is the monitor's user. Raises OSError or
        KernelError, with EEXIST for a link that leads nowhere.
        """
        with self.folder_of(path, errno.EISDIR) as (folder, name):
            flags |= os.O_CREAT | os.O_EXCL | _OPENED
            return openat2(folder.fd, name, flags, _RULES, mode & 0o777)

    def folder_of(self, path: bytes, no_name: int) -> _Entry:
        """
        The directory of a name that is to be made, removed or changed, and that name; use `with`.

        Raises OSError or KernelError: EROFS, EBUSY for a volume, no_name for "." and "..".
        """
        above, _, name = path.rstrip(b"/").rpartition(b"/")
        if name in (b"", b".", b".."):
            raise OSError(no_name, "")
        folder = self.find(above + b"/")
        try:
            if not folder.writable:
                raise OSError(errno.EROFS, "")
            if len(self._places) > 1 and _normal(path) in self._places:
                raise OSError(errno.EBUSY, "")
        except BaseException:
            close_owned(folder, "fd")
            raise
        return _Entry(folder, name)

    # --- the program ---------------------------------------------------------------------------

    def open_program(self, path: str, cwd: str) -> int:
        """
        A descriptor of the program to run.

        A path that leads to no root or volume is the host's, and the file is added to the view: at
        this path if it is absolute, below cwd otherwise. Raises ProgramError.
        """
        where = os.fsencode(path if path.startswith("/") else f"{cwd}/{path}")
        try:
            if not self._place(where)[0]:
                self._add_program(path, where)
            with self.find(where) as found:
                if not stat.S_ISREG(found.info.st_mode):
                    raise ProgramError("is not a regular file", at=path, status=126)
                return found.open(os.O_RDONLY)
        except (OSError, KernelError) as error:
            number = error.errno or 0
            why = "no such file or directory" if number == errno.ENOENT else reason(number)
            raise ProgramError(why, at=path, errno=number) from None

    def _add_program(self, path: str, where: bytes) -> None:
        fd = self._owned.keep_fd(os.open(path, os.O_PATH | os.O_CLOEXEC))
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ProgramError("is not a regular file", at=path, status=126)
        self._put(_normal(where), _Place(fd, number=PROGRAM))


def _normal(path: bytes) -> bytes:
    """A path without "." and "..", "/a/b" or "" for the root."""
    return os.path.normpath(b"/" + path.lstrip(b"/")).rstrip(b"/")


def status(fd: int, number: int) -> os.stat_result:
    """The status of an open file; with a number, only what the program must know of it."""
    info = os.fstat(fd)
    return made_status(info.st_mode, info.st_size, number) if number else info


def made_status(mode: int, size: int, number: int) -> os.stat_result:
    """The status of a file that the host does not have, or does not show: root's, of no time."""
    return os.stat_result(
        (mode, number, 1, 1, 0, 0, size, 0, 0, 0),
        {
            "st_atime_ns": 0, "st_mtime_ns": 0, "st_ctime_ns": 0, "st_rdev": 0,
            "st_blksize": _BLOCK, "st_blocks": -(-size // 512),
        },
    )  # fmt: skip
