"""
Calls with paths: opening, looking, and changing what is in volumes that are writable.

A path is looked at before anything is opened (view.py), then only directories and regular files
are; a few devices are made here (open_file.py), and nothing opens in the host's /proc and the like,
which would show the monitor.
"""

from __future__ import annotations

import errno
import os
import stat

from ...errors import KernelError
from ..open_file import Folder, OpenFile, device
from . import synthetic
from .layout import STAT, signed, statx_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..view import Found
    from .task import Task

AT_FDCWD = -100
_AT_EMPTY_PATH, _AT_NOFOLLOW, _AT_REMOVEDIR, _AT_FOLLOW = 0x1000, 0x100, 0x200, 0x400
_LOOK = os.O_DIRECTORY | os.O_NOFOLLOW
_OPEN = os.O_ACCMODE | os.O_TRUNC | os.O_APPEND
_UTIME_NOW, _UTIME_OMIT = 0x3FFF_FFFF, 0x3FFF_FFFE
_ENODATA = 61


# --- names to files ------------------------------------------------------------------------------


def absolute(task: Task, directory: int, name: bytes) -> bytes:
    """An absolute path in the view, with `..` still in it for the kernel to resolve."""
    if not name:
        raise OSError(errno.ENOENT, "")
    if name.startswith(b"/"):
        return name
    number = signed(directory, 32)
    if number == AT_FDCWD:
        return task.files.cwd + b"/" + name
    file = task.files.get(number)
    if not stat.S_ISDIR(file.status().st_mode):
        raise OSError(errno.ENOTDIR, "")
    return file.path + b"/" + name


def _path(task: Task, directory: int, address: int) -> bytes:
    return absolute(task, directory, task.space.text(address))


def find(task: Task, where: bytes, flags: int = 0) -> Found:
    """Look at a file of the view, or at one that is made here. Raises OSError, KernelError."""
    return synthetic.find(task, where, flags) or task.process.view.find(where, flags)


def _found(task: Task, directory: int, path: int, flags: int) -> Found:
    """The file of an *at() call whose flags may have AT_SYMLINK_NOFOLLOW."""
    nofollow = os.O_NOFOLLOW if flags & _AT_NOFOLLOW else 0
    return find(task, _path(task, directory, path), nofollow)


def openat(task: Task, directory: int, path: int, flags: int, mode: int) -> int:
    where = _path(task, directory, path)
    flags &= 0xFFFF_FFFF
    if flags & os.O_ACCMODE == os.O_ACCMODE:
        raise OSError(errno.EINVAL, "")
    if flags & os.O_TMPFILE == os.O_TMPFILE:
        raise OSError(errno.EOPNOTSUPP, "")
    file = synthetic.opened(task, where, flags) or _opened(task, where, flags, mode)
    return task.files.add(file, closes=bool(flags & os.O_CLOEXEC))


def open(task: Task, path: int, flags: int, mode: int) -> int:  # noqa: A001
    return openat(task, AT_FDCWD, path, flags, mode)


def creat(task: Task, path: int, mode: int) -> int:
    return openat(task, AT_FDCWD, path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode)


def _opened(task: Task, where: bytes, flags: int, mode: int) -> OpenFile:
    """Look, then open what was looked at, or create it."""
    view = task.process.view
    try:
        found = view.find(where, flags & _LOOK)
    except (OSError, KernelError) as error:
        if error.errno != errno.ENOENT or not flags & os.O_CREAT:
            raise
        fd = view.create(where, flags & _OPEN, mode)
        os.fchmod(fd, mode & ~task.process.umask & 0o777)
        return OpenFile(fd, where, flags & ~os.O_CREAT, regular=True)
    with found:
        if flags & os.O_CREAT and flags & os.O_EXCL:
            raise OSError(errno.EEXIST, "")
        return _open_found(found, where, flags & ~os.O_CLOEXEC)


def _open_found(found: Found, where: bytes, flags: int) -> OpenFile:
    """
    Open a file that was looked at. Raises OSError.

    It is a directory, a regular file or a device that is made here; with O_PATH, anything.
    """
    if found.fd < 0:
        if flags & (os.O_ACCMODE | os.O_CREAT | os.O_TRUNC):
            raise OSError(errno.EISDIR, "")
        return OpenFile(-1, where, flags, made=Folder(found.info, found.names))
    if flags & os.O_PATH:
        return OpenFile(found.take(), where, flags, number=found.number)
    made = device(found.info)
    if made:
        return OpenFile(-1, where, flags, made=made)
    regular = stat.S_ISREG(found.info.st_mode)
    fd = found.open(flags & _OPEN)
    return OpenFile(fd, where, flags & ~os.O_CREAT, regular=regular, number=found.number)


# --- looking -------------------------------------------------------------------------------------


def newfstatat(task: Task, directory: int, path: int, address: int, flags: int) -> int:
    info = _status(task, directory, path, flags)
    task.space.write(address, STAT[task.process.machine](info))
    return 0


def _status(task: Task, directory: int, path: int, flags: int) -> os.stat_result:
    if flags & _AT_EMPTY_PATH and not task.space.text(path):
        return task.files.get(directory).status()
    with _found(task, directory, path, flags) as found:
        return found.info


def stat_(task: Task, path: int, address: int) -> int:
    return newfstatat(task, AT_FDCWD, path, address, 0)


def lstat(task: Task, path: int, address: int) -> int:
    return newfstatat(task, AT_FDCWD, path, address, _AT_NOFOLLOW)


def fstat(task: Task, fd: int, address: int) -> int:
    info = task.files.get(fd).status()
    task.space.write(address, STAT[task.process.machine](info))
    return 0


def statx(task: Task, directory: int, path: int, flags: int, mask: int, address: int) -> int:
    if mask >> 31 & 1 or flags & 0x6000 == 0x6000:
        raise OSError(errno.EINVAL, "")
    task.space.write(address, statx_bytes(_status(task, directory, path, flags)))
    return 0


def access(task: Task, path: int, mode: int) -> int:
    return faccessat2(task, AT_FDCWD, path, mode, 0)


def faccessat(task: Task, directory: int, path: int, mode: int) -> int:
    return faccessat2(task, directory, path, mode, 0)


def faccessat2(task: Task, directory: int, path: int, mode: int, flags: int) -> int:
    if mode & ~7:
        raise OSError(errno.EINVAL, "")
    with _found(task, directory, path, flags) as found:
        if mode & os.W_OK and not found.writable and not device(found.info):
            raise OSError(errno.EROFS, "")
        if mode & os.X_OK and not found.info.st_mode & 0o111:
            raise OSError(errno.EACCES, "")
    return 0


def readlink(task: Task, path: int, address: int, size: int) -> int:
    return readlinkat(task, AT_FDCWD, path, address, size)


def readlinkat(task: Task, directory: int, path: int, address: int, size: int) -> int:
    where = _path(task, directory, path)
    target = synthetic.link(task, where)
    if target is None:
        with task.process.view.find(where, os.O_NOFOLLOW) as found:
            if not stat.S_ISLNK(found.info.st_mode):
                raise OSError(errno.EINVAL, "")
            target = os.readlink(b"", dir_fd=found.fd)
    if not 0 < size < 1 << 31:
        raise OSError(errno.EINVAL, "")
    task.space.write(address, target[:size])
    return len(target[:size])


def getcwd(task: Task, address: int, size: int) -> int:
    text = task.files.cwd + b"\0"
    if len(text) > size:
        raise OSError(errno.ERANGE, "")
    task.space.write(address, text)
    return len(text)


def chdir(task: Task, path: int) -> int:
    return _enter(task, _path(task, AT_FDCWD, path))


def fchdir(task: Task, fd: int) -> int:
    return _enter(task, task.files.get(fd).path)


def _enter(task: Task, path: bytes) -> int:
    with find(task, path) as found:
        if not stat.S_ISDIR(found.info.st_mode):
            raise OSError(errno.ENOTDIR, "")
        if not found.info.st_mode & 0o111:
            raise OSError(errno.EACCES, "")
    # `..` after a link is resolved by name, not by target
    task.files.cwd = os.path.normpath(b"/" + path.lstrip(b"/"))
    return 0


def statfs(task: Task, path: int, address: int) -> int:
    with _found(task, AT_FDCWD, path, 0) as found:
        return _statfs(task, found.fd, address)


def fstatfs(task: Task, fd: int, address: int) -> int:
    return _statfs(task, task.files.get(fd).fd, address)


def _statfs(task: Task, fd: int, address: int) -> int:
    """Struct statfs; the figures are those of the host's file system, without its identity."""
    if fd < 0:
        words = (0x0102_1994, 4096, 0, 0, 0, 0, 0)  # TMPFS_MAGIC
    else:
        i = os.fstatvfs(fd)
        words = (0x0102_1994, i.f_bsize, i.f_blocks, i.f_bfree, i.f_bavail, i.f_files, i.f_ffree)
    tail = (0, 255, 4096, 0, 0, 0, 0, 0)
    data = b"".join(word.to_bytes(8, "little") for word in (*words, *tail))
    task.space.write(address, data)
    return 0


def no_attributes(task: Task, path: int) -> int:
    """getxattr(2) and its relatives: no file has extended attributes."""
    with _found(task, AT_FDCWD, path, 0):
        raise OSError(_ENODATA, "")


def no_attributes_of_descriptor(task: Task, fd: int) -> int:
    task.files.get(fd)
    raise OSError(_ENODATA, "")


def list_attributes(task: Task, path: int) -> int:
    with _found(task, AT_FDCWD, path, 0):
        return 0


def list_attributes_of_descriptor(task: Task, fd: int) -> int:
    task.files.get(fd)
    return 0


# --- changing ------------------------------------------------------------------------------------


def mkdir(task: Task, path: int, mode: int) -> int:
    return mkdirat(task, AT_FDCWD, path, mode)


def mkdirat(task: Task, directory: int, path: int, mode: int) -> int:
    where = _path(task, directory, path)
    _must_be_absent(task, where)
    with task.process.view.folder_of(where, errno.EEXIST) as (folder, name):
        os.mkdir(name, 0o700, dir_fd=folder.fd)
        with find(task, where, os.O_NOFOLLOW) as made:
            os.chmod(f"/proc/self/fd/{made.fd}", mode & ~task.process.umask & 0o1777)
    return 0


def _must_be_absent(task: Task, where: bytes) -> None:
    """EEXIST comes before EROFS."""
    try:
        find(task, where, os.O_NOFOLLOW).__exit__()
    except (OSError, KernelError) as error:
        if error.errno != errno.ENOENT:
            raise
    else:
        raise OSError(errno.EEXIST, "")


def _must_exist(task: Task, where: bytes) -> None:
    find(task, where, os.O_NOFOLLOW).__exit__()


def rmdir(task: Task, path: int) -> int:
    return unlinkat(task, AT_FDCWD, path, _AT_REMOVEDIR)


def unlink(task: Task, path: int) -> int:
    return unlinkat(task, AT_FDCWD, path, 0)


def unlinkat(task: Task, directory: int, path: int, flags: int) -> int:
    if flags & ~_AT_REMOVEDIR:
        raise OSError(errno.EINVAL, "")
    where = _path(task, directory, path)
    _must_exist(task, where.rstrip(b"/") if flags else where)
    none = errno.EINVAL if where.endswith(b"/.") else errno.ENOTEMPTY if flags else errno.EISDIR
    with task.process.view.folder_of(where, none) as (folder, name):
        (os.rmdir if flags else os.unlink)(name, dir_fd=folder.fd)
    return 0


def rename(task: Task, old: int, new: int) -> int:
    return renameat2(task, AT_FDCWD, old, AT_FDCWD, new, 0)


def renameat(task: Task, old_dir: int, old: int, new_dir: int, new: int) -> int:
    return renameat2(task, old_dir, old, new_dir, new, 0)


def renameat2(task: Task, old_dir: int, old: int, new_dir: int, new: int, flags: int) -> int:
    source, target = _path(task, old_dir, old), _path(task, new_dir, new)
    if flags & ~1:
        raise OSError(errno.EINVAL, "")
    _must_exist(task, source.rstrip(b"/"))
    if flags:  # RENAME_NOREPLACE
        _must_be_absent(task, target)
    view = task.process.view
    with (
        view.folder_of(source, errno.EBUSY) as (folder, name),
        view.folder_of(target, errno.EBUSY) as (other, new_name),
    ):
        if folder.place is not other.place:
            raise OSError(errno.EXDEV, "")
        os.rename(name, new_name, src_dir_fd=folder.fd, dst_dir_fd=other.fd)
    return 0


def link(task: Task, old: int, new: int) -> int:
    return linkat(task, AT_FDCWD, old, AT_FDCWD, new, 0)


def linkat(task: Task, old_dir: int, old: int, new_dir: int, new: int, flags: int) -> int:
    source, target = _path(task, old_dir, old), _path(task, new_dir, new)
    if flags & ~_AT_FOLLOW:
        raise OSError(errno.EINVAL, "")
    _must_exist(task, source)
    _must_be_absent(task, target)
    view = task.process.view
    with (
        view.folder_of(target, errno.EEXIST) as (other, new_name),
        view.folder_of(source, errno.EPERM) as (folder, name),
    ):
        if folder.place is not other.place:
            raise OSError(errno.EXDEV, "")
        os.link(name, new_name, src_dir_fd=folder.fd, dst_dir_fd=other.fd, follow_symlinks=False)
    return 0


def symlink(task: Task, target: int, path: int) -> int:
    return symlinkat(task, target, AT_FDCWD, path)


def symlinkat(task: Task, target: int, directory: int, path: int) -> int:
    text, where = task.space.text(target), _path(task, directory, path)
    if not text:
        raise OSError(errno.ENOENT, "")
    _must_be_absent(task, where)
    with task.process.view.folder_of(where, errno.EEXIST) as (folder, name):
        os.symlink(text, name, dir_fd=folder.fd)
    return 0


def mknod(task: Task, path: int, mode: int) -> int:
    return mknodat(task, AT_FDCWD, path, mode)


def mknodat(task: Task, directory: int, path: int, mode: int) -> int:
    where = _path(task, directory, path)
    _must_be_absent(task, where)
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise OSError(errno.EPERM, "")
    os.close(task.process.view.create(where, os.O_RDONLY, mode & ~task.process.umask))
    return 0


def truncate(task: Task, path: int, length: int) -> int:
    if signed(length, 64) < 0:
        raise OSError(errno.EINVAL, "")
    with _found(task, AT_FDCWD, path, 0) as found:
        if stat.S_ISDIR(found.info.st_mode):
            raise OSError(errno.EISDIR, "")
        fd = found.open(os.O_WRONLY)
    try:
        os.ftruncate(fd, length)
    finally:
        os.close(fd)
    return 0


def _writable(found: Found) -> str:
    """A path of this host to a file that may be changed. Raises OSError with EROFS."""
    if not found.writable or found.fd < 0:
        raise OSError(errno.EROFS, "")
    return f"/proc/self/fd/{found.fd}"


def chmod(task: Task, path: int, mode: int) -> int:
    return fchmodat(task, AT_FDCWD, path, mode)


def fchmodat(task: Task, directory: int, path: int, mode: int) -> int:
    with _found(task, directory, path, 0) as found:
        os.chmod(_writable(found), mode & 0o1777)
    return 0


def fchmod(task: Task, fd: int, mode: int) -> int:
    with _of_descriptor(task, fd) as found:
        os.chmod(_writable(found), mode & 0o1777)
    return 0


def _of_descriptor(task: Task, fd: int) -> Found:
    """The file of the view that is open. Raises OSError: EBADF, ENOENT if it has another name."""
    file = task.files.get(fd)
    found = find(task, file.path or b"/")
    if not os.path.samestat(found.info, file.status()):
        found.__exit__()
        raise OSError(errno.EROFS, "")
    return found


def chown(task: Task, path: int, user: int, group: int) -> int:
    return fchownat(task, AT_FDCWD, path, user, group, 0)


def lchown(task: Task, path: int, user: int, group: int) -> int:
    return fchownat(task, AT_FDCWD, path, user, group, _AT_NOFOLLOW)


def fchownat(task: Task, directory: int, path: int, user: int, group: int, flags: int) -> int:
    with _found(task, directory, path, flags) as found:
        return _chown(found, user, group)


def fchown(task: Task, fd: int, user: int, group: int) -> int:
    with _of_descriptor(task, fd) as found:
        return _chown(found, user, group)


def _chown(found: Found, user: int, group: int) -> int:
    """The only user is root, who owns all files."""
    _writable(found)
    if {user & 0xFFFF_FFFF, group & 0xFFFF_FFFF} - {0, 0xFFFF_FFFF}:
        raise OSError(errno.EPERM, "")
    return 0


def utimensat(task: Task, directory: int, path: int, times: int, flags: int) -> int:
    look = _found(task, directory, path, flags) if path else _of_descriptor(task, directory)
    with look as found:
        where = _writable(found)
        if stat.S_ISLNK(found.info.st_mode):
            return 0  # through /proc only its target's could be set
        stamps = _stamps(task, times, found.info)
        os.utime(where, ns=stamps)
    return 0


def _stamps(task: Task, times: int, info: os.stat_result) -> tuple[int, int]:
    """Nanoseconds of access and modification."""
    import time

    now = time.time_ns()
    if not times:
        return now, now
    found = []
    data = task.space.read(times, 32)
    for at, before in ((0, info.st_atime_ns), (16, info.st_mtime_ns)):
        seconds = int.from_bytes(data[at : at + 8], "little", signed=True)
        part = int.from_bytes(data[at + 8 : at + 16], "little", signed=True)
        if part not in (_UTIME_NOW, _UTIME_OMIT) and not 0 <= part < 10**9:
            raise OSError(errno.EINVAL, "")
        found.append({_UTIME_NOW: now, _UTIME_OMIT: before}.get(part, seconds * 10**9 + part))
    return found[0], found[1]


def umask(task: Task, mask: int) -> int:
    before, task.process.umask = task.process.umask, mask & 0o777
    return before
