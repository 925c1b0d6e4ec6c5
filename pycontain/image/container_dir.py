"""
The directory of one container: its bundle, and what it writes.

    /var/lib/pycontain/containers/    0700
        NAME.XXXXXX/                  locked while a command in the foreground runs it
            record.json               id, state root, digest of the image
            config.json               the configuration: `pycontain state` names this bundle
            files/                    /etc/hosts and others that are mounted into it
            layers/                   what it writes (see `overlay`)
            output                    what it prints, if it is detached

A command in the foreground removes it at the end. That of a detached container is removed by a
poststop hook, when the container is deleted; and `pycontain image prune` removes what is left of
commands that were killed.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager

from ..errors import KernelError, StateError
from ..kernel.descriptors import close_locked, close_owned, open_lock, release_lock
from ..kernel.files import read_bytes
from ..lean import jsontext
from ..state.directory import StateDir, check_id
from . import store, tools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..kernel.safe_path import Directory

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ContainerDir:
    """A new directory for the container of this id. Raises StateError for an invalid id."""

    def __init__(self, id: str, root: str, image: str) -> None:
        check_id(id)
        self._parent = _parent()
        with _guard(self._parent):
            self.path = tempfile.mkdtemp(prefix=f"{id}.", dir=place())
            self._lock = open_lock(self.path, _OPEN_DIRECTORY)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.write("record.json", jsontext.dumps({"id": id, "root": root, "image": image}))

    def write(self, name: str, text: str) -> str:
        """Write a file; returns its path."""
        path = os.path.join(self.path, name)
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def make_directory(self, name: str) -> str:
        """Make an empty directory; returns its path."""
        path = os.path.join(self.path, name)
        os.mkdir(path, 0o700)
        return path

    def remove(self) -> None:
        """Remove it and all that is in it."""
        tools.remove_tree(os.path.basename(self.path), self._parent.fd)
        release_lock(self._lock)
        close_owned(self, "_lock")


def place() -> str:
    """Where the directories are."""
    return os.path.join(store.home(), "containers")


def removal(path: str) -> dict[str, object]:
    """The hook that removes a directory, as in config.json."""
    return {"path": "/bin/rm", "args": ["rm", "-rf", "--one-file-system", path]}


def records() -> Iterator[tuple[str, dict[str, str]]]:
    """The path and the record of each directory that is complete."""
    for path in _paths(_parent()):
        record = _record(path)
        if record is not None:
            yield path, record


def _paths(parent: Directory) -> list[str]:
    return [
        os.path.join(place(), name) for name in sorted(os.listdir(f"/proc/self/fd/{parent.fd}"))
    ]


def _record(path: str) -> dict[str, str] | None:
    """The record in a directory, None while that is being created or removed."""
    try:
        found = jsontext.loads(read_bytes(os.path.join(path, "record.json")).decode())
    except (KernelError, ValueError):
        return None
    assert isinstance(found, dict)
    return found


def users(digest: str) -> list[str]:
    """The ids of the containers that use an image."""
    return [
        record["id"]
        for path, record in records()
        if record["image"] == digest and not _is_left(path, record)
    ]


def remove_left() -> int:
    """Remove the directories of containers that do not exist any more; returns how many."""
    parent = _parent()
    with _guard(parent):
        left = [path for path in _paths(parent) if _is_left(path, _record(path))]
    for path in left:
        tools.remove_tree(os.path.basename(path), parent.fd)
    return len(left)


def _is_left(path: str, record: dict[str, str] | None) -> bool:
    """
    Whether neither a command runs the container, nor does it have a state.

    Without a record its command was killed before it could write one: others lock their directory
    under the guard.
    """
    try:
        fd = open_lock(path, _OPEN_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        close_locked(fd)
    if record is None:
        return True
    try:
        return StateDir.open(record["root"], record["id"]).load().bundle != path
    except (StateError, KernelError):
        return True


@contextmanager
def _guard(parent: Directory) -> Iterator[None]:
    """Hold the lock of all directories, which is held until a new one has its own."""
    fd = open_lock(".", _OPEN_DIRECTORY, dir_fd=parent.fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        close_locked(fd)


def _parent() -> Directory:
    return store.private(place())
