"""
The files of a sandbox: /work, /tmp and /dev/shm, in one file system in memory of a fixed size.

It is mounted nowhere on the host: it exists as long as a descriptor of it does (fsmount(2)). From
outside it is reached through that descriptor alone, and nothing in it is trusted: a link leads to
no place outside, and only regular files are opened.
"""

from __future__ import annotations

import itertools
import os
import stat

from ..errors import KernelError, StateError, UsageError
from ..kernel import const as c
from ..kernel.descriptors import close_owned
from ..kernel.mounts import Tree
from ..kernel.root import Root
from ..lean.record import Record
from ..library import arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    Kind = Literal["file", "directory", "link", "other"]

DIRECTORIES = ("work", "tmp", "shm")
_READ = 64 << 20  # bytes of a file, at most
_ENTRIES = 10_000  # of a directory, at most
_BYTES_A_FILE = 4096  # so many inodes as pages: empty files are not free, either
_PIECE = 1 << 20
_ATTRIBUTES = c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NODEV


class Entry(Record):
    """
    What a directory of a sandbox contains.

    kind  "file", "directory", "link" or "other", such as a FIFO
    size  in bytes
    """

    name: str
    kind: Kind
    size: int


class Files:
    """
    The files of a sandbox, from outside.

    Paths are as inside; relative ones start in /work. Methods raise UsageError for a path that is
    not below /work or /tmp, StateError for what is not a regular file, and KernelError.
    """

    def __init__(self, size: int, uid: int) -> None:
        """What is created belongs to the user uid. Raises KernelError."""
        inodes = max(1024, size // _BYTES_A_FILE)
        options = (f"size={size}", f"nr_inodes={inodes}", "mode=755")
        self.fd = Tree.new("tmpfs", options, _ATTRIBUTES, source="sandbox").fd
        self.uid = uid
        self.size = size
        for name in DIRECTORIES:
            os.mkdir(name, dir_fd=self.fd)
            os.chmod(name, 0o700, dir_fd=self.fd)  # whatever the umask
            os.chown(name, uid, uid, dir_fd=self.fd)
        self._root = Root(self.fd)
        self._numbers = itertools.count()

    def close(self) -> None:
        """Release the files; they last until the processes that use them have ended."""
        close_owned(self, "fd")

    @property
    def is_full(self) -> bool:
        """Whether nothing more can be written."""
        found = os.fstatvfs(self.fd)
        return found.f_bfree == 0 or found.f_ffree == 0

    def has(self, path: str) -> bool:
        """Whether this is a directory in /work or /tmp."""
        try:
            directory = self._root.open(_inside(path), os.O_PATH | os.O_DIRECTORY)
        except (UsageError, KernelError):
            return False
        os.close(directory)
        return path.startswith("/")

    def read(self, path: str | os.PathLike[str], limit: int = _READ) -> bytes:
        """A file's content. Raises StateError if it is longer than the limit."""
        place = arguments.path(path, "path")
        fd = self._regular(place)
        try:
            pieces = []
            left = limit + 1
            while left and (piece := os.read(fd, min(left, _PIECE))):
                pieces.append(piece)
                left -= len(piece)
        finally:
            os.close(fd)
        if not left:
            raise StateError(f"is longer than {limit} bytes", at=place)
        return b"".join(pieces)

    def write(self, path: str | os.PathLike[str], data: bytes | str) -> None:
        """Create or replace a file, text as UTF-8; directories that are missing are made."""
        path, content = arguments.path(path, "path"), arguments.data(data, f"the content of {path}")
        head, name = os.path.split(_inside(path))
        if head == "/":
            raise UsageError("does not name a file", at=path or '""')
        directory = self._directory(head)
        temporary = f".pycontain-{next(self._numbers)}-{os.getpid()}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(temporary, flags, 0o644, dir_fd=directory)
            try:
                _fill(fd, content, self.uid)
                os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                os.unlink(temporary, dir_fd=directory)
                raise
            finally:
                os.close(fd)
        except OSError as error:
            raise KernelError.of("write", error.errno or 0, path) from None
        finally:
            os.close(directory)

    def list(self, path: str | os.PathLike[str] = "/work") -> list[Entry]:
        """What a directory contains, by name. Raises StateError beyond ten thousand entries."""
        path = arguments.path(path, "path")
        fd = self._root.open(_inside(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.scandir(fd) as entries:
                found = [_entry(one) for one in itertools.islice(entries, _ENTRIES + 1)]
        finally:
            os.close(fd)
        if len(found) > _ENTRIES:
            raise StateError(f"has more than {_ENTRIES} entries", at=path)
        return sorted(found, key=lambda entry: entry.name)

    def collected(self, paths: Sequence[str]) -> dict[str, bytes]:
        """The content of those of these files that exist."""
        found = {}
        for path in paths:
            try:
                found[path] = self.read(path)
            except (KernelError, StateError):
                continue  # no such file was written
        return found

    def _regular(self, path: str) -> int:
        """A file for reading; opening what is not regular could wait or have effects."""
        place = self._root.open(_inside(path))
        try:
            mode = os.fstat(place).st_mode
            if not stat.S_ISREG(mode):
                raise StateError("is not a regular file", at=path, value=stat.filemode(mode))
            return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(place)

    def _directory(self, path: str) -> int:
        """A directory, with what is missing of its path created for the sandbox's user."""
        done = ""
        for name in path.strip("/").split("/"):
            above = self._root.open(done or "/", os.O_PATH | os.O_DIRECTORY)
            try:
                os.mkdir(name, 0o755, dir_fd=above)
                os.chown(name, self.uid, self.uid, dir_fd=above, follow_symlinks=False)
            except FileExistsError:
                pass
            except OSError as error:
                raise KernelError.of("mkdir", error.errno or 0, path) from None
            finally:
                os.close(above)
            done = f"{done}/{name}"
        return self._root.open(done, os.O_RDONLY | os.O_DIRECTORY)


def _inside(path: str) -> str:
    """The path in the file system, which has the names that the sandbox sees."""
    if "\0" in path:
        raise UsageError("contains a NUL", at=repr(path))
    whole = os.path.join("/work", path)
    top, *rest = [name for name in whole.split("/") if name not in ("", ".")] or [""]
    if top not in ("work", "tmp") or ".." in rest:
        remedy = 'write it without ".."' if ".." in rest else ""
        raise UsageError("is not below /work or /tmp", at=path, remedy=remedy)
    return "/" + "/".join((top, *rest))


def _fill(fd: int, data: bytes, uid: int) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.fchmod(fd, 0o644)
    os.fchown(fd, uid, uid)


def _entry(found: os.DirEntry[str]) -> Entry:
    status = found.stat(follow_symlinks=False)
    kind: Kind = "other"
    if stat.S_ISREG(status.st_mode):
        kind = "file"
    elif stat.S_ISDIR(status.st_mode):
        kind = "directory"
    elif stat.S_ISLNK(status.st_mode):
        kind = "link"
    return Entry(name=found.name, kind=kind, size=status.st_size)
