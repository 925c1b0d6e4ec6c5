"""
The cache of images: each is copied and unpacked once, and never changed afterwards.

    /var/lib/pycontain            or $XDG_DATA_HOME/pycontain for another user than root
        images/                   0700: a setuid program in an image is out of reach for others
            names.json            name -> digest of what it stood for, digest of the image
            lock                  held while names in this directory change
            source.DIGEST.lock    held while an image is copied; the digest of its manifest there
            DIGEST.lock           held while it is unpacked
            DIGEST/               an image; locked by containers, shared, while they start
                config.json       its configuration
                record.json       digest, size in bytes, when it was unpacked
                rootfs/           its root file system
            new.XXXXXX/           an image that is not complete, or is being removed
        containers/               see `container_dir`

An image becomes visible by one rename, when it is complete. Every directory must be ours
(kernel/safe_path.py).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import tempfile
import time
from contextlib import contextmanager

from ..errors import HostError, KernelError, StateError
from ..kernel import safe_path
from ..kernel.descriptors import close_locked, open_lock
from ..kernel.files import read_bytes
from ..lean import jsontext
from ..lean.record import Record
from . import layout, tools
from .reference import DIGEST, REGISTRY, USUAL, Access, checked, pinned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..kernel.safe_path import Directory
    from .layout import ImageConfig

_DIGITS = 64
_UNFINISHED = "new."
_NAMES = "names.json"
_NEW_NAMES = f"{_NAMES}.new"
_LOCK = ".lock"
_FILE = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Image(Record):
    """
    An image in the cache.

    digest  of its manifest, as sha256:...
    path    its directory
    names   the names that it was fetched by
    size    of all its files, in bytes
    config  its configuration
    """

    digest: str
    path: str
    names: tuple[str, ...]
    size: int
    config: ImageConfig

    @property
    def rootfs(self) -> str:
        """Its root file system, which nobody may change."""
        return os.path.join(self.path, "rootfs")


def home() -> str:
    """Where images and the directories of containers are, for this user."""
    if os.geteuid() == 0:
        return "/var/lib/pycontain"
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(data, "pycontain")


def private(path: str) -> Directory:
    """A directory that is ours alone, created if missing. Raises HostError, KernelError."""
    directory = safe_path.open_directory(path, create=True)
    if os.fstat(directory.fd).st_mode & 0o077:
        os.chmod(f"/proc/self/fd/{directory.fd}", 0o700)
    return directory


class Store:
    """The cache in a directory, which is created if missing. Raises HostError, KernelError."""

    def __init__(self, path: str = "") -> None:
        self.home = path or home()
        self.path = os.path.join(self.home, "images")
        self._directory = private(self.path)

    # --- looking -------------------------------------------------------------------------------

    def images(self) -> list[Image]:
        """All images, by digest."""
        names = self._names()
        found = (entry for entry in os.listdir(self._listed()) if len(entry) == _DIGITS)
        images = (self._image(DIGEST + entry, names) for entry in sorted(found))
        return [image for image in images if image is not None]

    def find(self, name: str) -> Image:
        """
        The cached image of this name or digest.

        Raises StateError if there is none, or several begin with the digest.
        """
        name = checked(name)
        found = [
            image
            for image in self.images()
            if name in image.names or (name.startswith(DIGEST) and image.digest.startswith(name))
        ]
        if len(found) != 1:
            why = "is the beginning of several digests" if found else "is not in the cache"
            raise StateError(why, at="image", value=name, remedy="see `pycontain images`")
        return found[0]

    def _image(self, digest: str, names: dict[str, dict[str, str]]) -> Image | None:
        path = os.path.join(self.path, digest.removeprefix(DIGEST))
        try:
            record = jsontext.loads(read_bytes(os.path.join(path, "record.json")).decode())
            text = read_bytes(os.path.join(path, "config.json")).decode()
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            return None
        assert isinstance(record, dict)
        return Image(
            digest=digest,
            path=path,
            names=tuple(name for name, entry in names.items() if entry["image"] == digest),
            size=record["size"],
            config=layout.parsed(digest, text),
        )

    # --- bringing ------------------------------------------------------------------------------

    def get(self, name: str, access: Access = USUAL, *, anew: bool = False) -> Image:
        """
        The image of this name; it is brought unless it is in the cache.

        An image in a registry is looked for only if none of that name is in the cache, or `anew`.
        Whether one in files is still the same is seen each time.

        Raises UsageError for what is not an image, HostError if it cannot be brought.
        """
        name = checked(name)
        access.check(name)
        if name.startswith(DIGEST):
            return self.find(name)
        known = self._names().get(name)
        if known and name.startswith(REGISTRY) and not anew:
            image = self._image(known["image"], self._names())
            if image is not None:
                return image
        source = hashlib.sha256(tools.manifest(name, access)).hexdigest()
        with self._locked(f"source.{source}"):
            return self._brought(name, source, access)

    def _brought(self, name: str, source: str, access: Access) -> Image:
        """The image whose manifest where it comes from has the digest `source`."""
        known = [entry["image"] for entry in self._names().values() if entry["source"] == source]
        known.append(DIGEST + source)  # so it is, unless the source is an index or was converted
        digest = next((each for each in known if self._image(each, {}) is not None), "")
        if not digest:
            with self._unfinished() as (directory, lock):
                digest = self._unpacked(name, source, directory, lock, access)
        self._remember(name, {"source": source, "image": digest})
        image = self._image(digest, self._names())
        if image is None:
            raise HostError("was removed by another command", at="image", value=name)
        return image

    def _unpacked(self, name: str, source: str, directory: str, lock: int, access: Access) -> str:
        """Copy and unpack an image in a directory; it becomes visible at the end. Its digest."""
        copied, made = os.path.join(directory, "layout"), os.path.join(directory, "image")
        tools.copy(name, pinned(name, DIGEST + source), copied, lock, access)
        digest, text = layout.read(copied, name)
        layout.check_machine(layout.parsed(digest, text), name)
        final = os.path.join(self.path, digest.removeprefix(DIGEST))
        with self._locked(digest.removeprefix(DIGEST)):
            if os.path.isdir(final):  # it came by another name
                return digest
            os.mkdir(made, 0o700)
            rootfs = os.path.join(made, "rootfs")
            tools.unpack(copied, rootfs, name, lock)
            record = {"digest": digest, "size": tools.size(rootfs), "unpacked": int(time.time())}
            _write(os.path.join(made, "config.json"), text)
            _write(os.path.join(made, "record.json"), jsontext.dumps(record))
            os.sync()  # the name must not reach the disk before the content
            os.rename(made, final)
        return digest

    # --- using and removing --------------------------------------------------------------------

    def use(self, image: Image) -> int:
        """
        A descriptor of an image's directory; until it is closed, the image cannot be removed.

        Raises StateError if it has been removed.
        """
        try:
            fd = open_lock(image.path, _OPEN_DIRECTORY)
        except FileNotFoundError:
            raise _missing(image) from None
        fcntl.flock(fd, fcntl.LOCK_SH)
        if not _is_at(fd, image.path):
            close_locked(fd)
            raise _missing(image)
        return fd

    def remove(self, image: Image, users: list[str]) -> None:
        """
        Remove an image and its names.

        users: the ids of the containers that use it. Raises StateError if there are any.
        """
        fd = open_lock(image.path, _OPEN_DIRECTORY)
        try:
            if users or not _try_lock(fd):
                who = f"container {users[0]}" if users else "a container that is starting"
                remedy = "delete the container first"
                raise StateError(f"is used by {who}", at="image", value=image.digest, remedy=remedy)
            with self._locked_names() as names:
                for name in image.names:
                    names.pop(name, None)
            with self._unfinished() as (directory, _):
                os.rename(image.path, os.path.join(directory, "image"))
        finally:
            close_locked(fd)

    def remove_unfinished(self) -> int:
        """Remove what interrupted commands have left; returns how many there were."""
        count = 0
        with self._guard():
            for entry in os.listdir(self._listed()):
                if entry.startswith(_UNFINISHED) and self._removed(entry, _OPEN_DIRECTORY):
                    count += 1
                elif entry.endswith(_LOCK) or entry == _NEW_NAMES:
                    self._removed(entry, _FILE)
        return count

    def _removed(self, entry: str, flags: int) -> bool:
        """Remove a directory or a lock file unless it is locked; whether it was removed."""
        try:
            fd = open_lock(entry, flags, dir_fd=self._directory.fd)
        except FileNotFoundError:
            return False
        try:
            free = _try_lock(fd)
            if free:
                tools.remove_tree(entry, self._directory.fd)
        finally:
            close_locked(fd)
        return free

    # --- internals -----------------------------------------------------------------------------

    def _listed(self) -> str:
        """The directory, by descriptor: its path may be another's by now."""
        return f"/proc/self/fd/{self._directory.fd}"

    @contextmanager
    def _unfinished(self) -> Iterator[tuple[str, int]]:
        """A directory that is removed afterwards, and the descriptor that has its lock."""
        with self._guard():
            directory = tempfile.mkdtemp(prefix=_UNFINISHED, dir=self.path)
            fd = open_lock(directory, _OPEN_DIRECTORY)
            fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            yield directory, fd
        finally:
            tools.remove_tree(os.path.basename(directory), self._directory.fd)
            close_locked(fd)

    @contextmanager
    def _locked(self, what: str) -> Iterator[None]:
        """Wait until nobody else copies, or unpacks, the image of this digest."""
        fd = self._lock_file(what + _LOCK)
        try:
            yield
        finally:
            os.unlink(what + _LOCK, dir_fd=self._directory.fd)
            close_locked(fd)

    def _lock_file(self, name: str) -> int:
        """Lock a file that its holders remove: what is locked must still have the name."""
        while True:
            fd = open_lock(name, _FILE | os.O_CREAT, dir_fd=self._directory.fd)
            if not _try_lock(fd):
                tools.tell("waiting for another command that brings this image")
                fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                return fd
            close_locked(fd)

    def _names(self) -> dict[str, dict[str, str]]:
        try:
            text = read_bytes(_NAMES, self._directory.fd, os.path.join(self.path, _NAMES))
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            return {}
        found = jsontext.loads(text.decode())
        assert isinstance(found, dict)
        return found

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Hold the lock of the directory itself, for as long as it takes to change a name."""
        fd = open_lock("lock", _FILE | os.O_CREAT, dir_fd=self._directory.fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            close_locked(fd)

    @contextmanager
    def _locked_names(self) -> Iterator[dict[str, dict[str, str]]]:
        """The names, to be changed; they are written afterwards."""
        with self._guard():
            names = self._names()
            yield names
            _write(f"{self.path}/{_NEW_NAMES}", jsontext.dumps(names))
            os.rename(f"{self.path}/{_NEW_NAMES}", f"{self.path}/{_NAMES}")

    def _remember(self, name: str, entry: dict[str, str]) -> None:
        if self._names().get(name) == entry:
            return
        with self._locked_names() as names:
            names[name] = entry


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _missing(image: Image) -> StateError:
    return StateError("was removed", at="image", value=image.digest, remedy="run it again")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _is_at(fd: int, path: str) -> bool:
    """Whether a directory that is open still has this path."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
