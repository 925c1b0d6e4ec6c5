"""
A directory that no path can leave: how a root file system is accessed before it is "/".

Every container escape of recent years resolved a path of the rootfs as a string: a symlink, a `..`
or a file swapped at the right moment led outside (CVE-2021-30465, CVE-2024-45310, CVE-2026-41579).
Here the kernel resolves each path below a descriptor (openat2(2), RESOLVE_IN_ROOT, Linux 5.6),
never through magic links such as /proc/self/root, and the result is a descriptor, which nobody can
swap.

A process that can write to the rootfs from another mount namespace can also exchange a mount point
for a decoy (renameat2(2), RENAME_EXCHANGE). So mounts are remembered by the path that they were
attached at, and paths into a trusted one are looked up in that very mount.
"""

from __future__ import annotations

import _stat as stat
import errno

from ..errors import KernelError
from ..lean import os
from . import calls
from . import const as c

_SAFE = c.RESOLVE_IN_ROOT | c.RESOLVE_NO_MAGICLINKS
_WITHIN = c.RESOLVE_BENEATH | c.RESOLVE_NO_MAGICLINKS  # EXDEV where a link leads out
_DIRECTORY = os.O_PATH | os.O_DIRECTORY
_LINKS_FOLLOWED = 40  # as path_resolution(7) allows


class Root:
    """
    A directory, by descriptor, and the files below it.

    Paths are as seen from inside: "/etc", "etc" and "/../etc" are the same file. Methods return
    descriptors that the caller closes (a container's init leaves that to execve). They raise
    KernelError.

    mounts   path -> descriptor of each mount attached below (`remember`)
    trusted  path -> (device, inode) of each of them whose content only the kernel or we made
    """

    __slots__ = ("fd", "mounts", "trusted")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.mounts: dict[str, int] = {}
        self.trusted: dict[str, tuple[int, int]] = {}

    def open(self, path: str, flags: int = os.O_PATH) -> int:
        """Open a file below this root; a symlink at the end is followed inside the root."""
        fd = self._try(path, flags)
        if fd < 0:
            raise calls.openat2_error(-fd, path)
        return fd

    def find(self, path: str, flags: int = os.O_PATH) -> int | None:
        """As open, but None when there is no such file."""
        fd = self._try(path, flags)
        if fd >= 0:
            return fd
        if fd in (-errno.ENOENT, -errno.ENOTDIR):
            return None
        raise calls.openat2_error(-fd, path)

    def everywhere(self, path: str) -> list[int]:
        """
        As find, but every file that a path can refer to.

        A file in a trusted mount may not be what the container will see: a hook, or a mount whose
        path is another name for that place, can have covered it.
        """
        file = self.find(path)
        places = [] if file is None else [file]
        place, _ = self._trusted_place(path)
        if place and self._is_covered(place):
            seen = self._seen(path)
            places += [] if seen is None else [seen]
        return places

    def _seen(self, path: str) -> int | None:
        """What the path leads to by name; None if nothing: any other error must not unmask it."""
        fd = calls.try_openat2(self.fd, path, os.O_PATH, _SAFE)
        if fd >= 0:
            return fd
        if fd in (-errno.ENOENT, -errno.ENOTDIR):
            return None
        raise calls.openat2_error(-fd, path)

    def _is_covered(self, place: str) -> bool:
        """Whether another mount, or another directory, is at the place of a trusted mount."""
        fd = self._seen(place)
        if fd is None:
            return True
        try:
            return calls.mount_id(fd) != calls.mount_id(self.mounts[place])
        finally:
            os.close(fd)

    def _try(self, path: str, flags: int) -> int:
        """A descriptor, or -errno."""
        place, rest = self._trusted_place(path)
        if place:
            fd = calls.try_openat2(self.mounts[place], rest, flags, _WITHIN)
            if fd != -errno.EXDEV:
                return fd
        return calls.try_openat2(self.fd, path.encode() or b".", flags, _SAFE)

    def _trusted_place(self, path: str) -> tuple[str, str]:
        """The place of the innermost trusted mount that a path leads into; the path's rest."""
        names = _names(path) if self.trusted else []
        if ".." in names:  # only the kernel can resolve that
            return "", path
        for end in range(len(names), 0, -1):
            place = _joined(names[:end])
            if place in self.trusted:
                return place, "/".join(names[end:]) or "."
        return "", path

    def remember(self, path: str, fd: int, *, trusted: bool = False) -> None:
        """
        Record the mount that was attached at a path, covering all that was there.

        trusted  only the kernel and we can have put anything into it
        """
        place = _joined(_names(path))
        covered = [known for known in self.mounts if is_below(known, place)]
        for known in covered:
            del self.mounts[known]
            self.trusted.pop(known, None)
        self.mounts[place] = fd
        if trusted:
            self.trusted[place] = _identity(fd)

    def is_trusted(self, fd: int) -> bool:
        """Whether a descriptor is open on the directory that is the root of a trusted mount."""
        return _identity(fd) in self.trusted.values()

    def mount(self, path: str) -> int:
        """The root of the mount that was attached at a path, or the file there if none was."""
        mount = self.mounts.get(_joined(_names(path)))
        return self.open(path) if mount is None else mount

    def parent(self, path: str) -> tuple[int, str]:
        """The directory that contains a path, created if missing, and the path's last name."""
        head, _, name = path.rstrip("/").rpartition("/")
        return self.make_directory(head), name

    def make_directory(self, path: str) -> int:
        """Open a directory, creating it and its parents if missing (0755, whatever the umask)."""
        directory = self.find(path, _DIRECTORY)
        return self._make(path) if directory is None else directory

    def _make(self, path: str) -> int:
        """Create a directory; name by name if more than the last name is missing or is a link."""
        head, _, name = path.rpartition("/")
        above = self.find(head, _DIRECTORY) if name not in ("", ".", "..") else None
        if above is None:
            return self._make_each(path)
        try:
            if _link_target(above, name) is not None:
                return self._make_each(path)
            _make_one(above, name, path)
        finally:
            os.close(above)
        return self._directory(path, path)

    def _make_each(self, path: str) -> int:
        """
        Walk a path name by name, creating what is missing.

        `done` contains no symlinks: each is read and its target walked instead, so that the target
        of a dangling `/var/run -> /run` is created where the container would create it.
        """
        done: list[str] = []
        ahead = path.split("/")[::-1]
        links = 0
        fd = self.open("/")
        while ahead:
            name = ahead.pop()
            if name in ("", "."):
                continue
            if name == "..":
                done = done[:-1]
            elif (target := _link_target(fd, name)) is not None:
                links += 1
                if links > _LINKS_FOLLOWED:
                    raise KernelError.of("mkdir", errno.ELOOP, path)
                ahead += target.split("/")[::-1]
                done = [] if target.startswith("/") else done
            else:
                _make_one(fd, name, path)
                done.append(name)
            os.close(fd)
            fd = self._directory("/".join(done) or "/", path)
        return fd

    def _directory(self, done: str, path: str) -> int:
        try:
            return self.open(done, _DIRECTORY)
        except KernelError as error:
            error.fault.at = path  # the requested one; `done` is a part of it, links resolved
            raise

    def make_file(self, path: str) -> int:
        """Open a file or directory that exists, or create an empty file (0644, as above)."""
        for _ in range(_LINKS_FOLLOWED):
            file = self.find(path)
            if file is not None:
                return file
            directory, name = self.parent(path)
            try:
                target = _link_target(directory, name)
                if target is None:
                    return _make_regular(directory, name, path)
            finally:
                os.close(directory)
            # a dangling link, as /etc/resolv.conf often is: create its target
            path = (
                target
                if target.startswith("/")
                else f"{path.rstrip('/').rpartition('/')[0]}/{target}"
            )
        raise KernelError.of("open", errno.ELOOP, path)


def is_below(path: str, directory: str) -> bool:
    """Whether an absolute path is that of a directory or below it, compared as text."""
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _joined(names: list[str]) -> str:
    return "/" + "/".join(names)


def _make_regular(directory: int, name: str, path: str) -> int:
    flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY
    old = os.umask(0)  # the caller's must not decide who in the container can read it
    try:
        os.close(calls.openat2(directory, name, flags, _SAFE, 0o644))
    except KernelError as error:
        error.fault.at = path
        raise
    finally:
        os.umask(old)
    return calls.openat2(directory, name, os.O_PATH | os.O_NOFOLLOW, _SAFE)


def _link_target(directory: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):  # not a link, or missing
            return None
        raise


def _make_one(directory: int, name: str, path: str) -> None:
    old = os.umask(0)  # as above
    try:
        os.mkdir(name, 0o755, dir_fd=directory)
    except FileExistsError:
        return
    except OSError as error:
        raise KernelError.of("mkdir", error.errno or 0, path) from None
    finally:
        os.umask(old)


def is_directory(fd: int) -> bool:
    """Whether a descriptor is open on a directory."""
    return stat.S_ISDIR(os.fstat(fd).st_mode)
