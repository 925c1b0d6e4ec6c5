"""The directory of a container's state; the package's docstring lists its files."""

from __future__ import annotations

import _stat as stat
import errno
import fcntl

from ..errors import KernelError, StateError
from ..kernel.files import read_text
from ..lean import jsontext, os
from .record import state_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from .record import State

_STATE = "state.json"
_PROCESS = "process"
_CONFIG = "config.json"
_IN, _OUT = "start.in", "start.out"
_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-")
_REST = _FIRST | {"."}
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def check_id(id: str) -> None:
    """Raises StateError unless this can be a container's id (and a file's name)."""
    if not id or id[0] not in _FIRST or not _REST.issuperset(id):
        raise StateError(
            "is not a container id",
            at="id",
            value=repr(id),
            remedy="use letters, digits, _ + - and, except at the beginning, dots",
        )
    if len(id) > 255:
        raise StateError("is longer than 255 characters", at="id", value=id[:20] + "...")


class StateDir:
    """The directory of one container."""

    def __init__(self, root: str, id: str) -> None:
        check_id(id)
        self.id = id
        self.path = os.path.join(root, id)
        self._lock = -1
        self._process = -1

    def reserve(self) -> None:
        """Create the directory and lock it. Raises StateError if the id is taken."""
        os.makedirs(os.path.dirname(self.path), 0o700)
        try:
            os.mkdir(self.path, 0o700)
        except FileExistsError:
            raise StateError(
                "exists already",
                at="container",
                value=self.id,
                remedy="choose another id, or delete it",
            ) from None
        self.lock()

    @classmethod
    def open(cls, root: str, id: str) -> Self:
        """The directory of an existing container. Raises StateError if there is none of ours."""
        directory = cls(root, id)
        try:
            found = os.lstat(directory.path)
        except OSError:
            raise directory._missing() from None
        if not stat.S_ISDIR(found.st_mode):
            raise directory._missing()
        directory._check_owner(found.st_uid)
        return directory

    def __enter__(self) -> Self:
        self.lock()
        return self

    def __exit__(self, *_: object) -> None:
        self.unlock()

    def lock(self, *, wait: bool = True) -> bool:
        """
        Lock this container against other commands; a second call does nothing.

        Without wait, returns False if another command holds the lock. Raises StateError if the
        container was deleted by the time the lock was released.
        """
        if self._lock >= 0:
            return True
        try:
            self._lock = os.open(self.path, _OPEN_DIRECTORY)
            fcntl.flock(self._lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(self._lock)
            if found.st_nlink == 0:  # deleted by the previous holder of the lock
                raise self._missing()
            self._check_owner(found.st_uid)
        except (FileNotFoundError, NotADirectoryError):
            raise self._missing() from None
        except BlockingIOError:
            self.unlock()
            return False
        except BaseException:
            self.unlock()
            raise
        return True

    def _missing(self) -> StateError:
        return StateError("does not exist", at="container", value=self.id)

    def _check_owner(self, owner: int) -> None:
        """
        Raises StateError unless the directory is ours.

        Another user who can write to the root could have put a state there, and `exec` would start
        a program, as us, wherever that state says.
        """
        ours = os.geteuid()
        if owner != ours:
            raise StateError(
                f"belongs to user {owner}, not to user {ours}, so it is not trusted",
                at=self.path,
                remedy=f"choose a --root that only user {ours} can write to",
            )

    def unlock(self) -> None:
        """Release the lock."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def close(self) -> None:
        """Close all descriptors, which also releases the lock."""
        self.unlock()
        if self._process >= 0:
            os.close(self._process)
            self._process = -1

    def close_copy(self) -> None:
        """
        Close the lock's descriptor in a child, which could outlive us and would keep it locked.

        The object is left unchanged, since the parent may share it (vfork).
        """
        os.close(self._lock)

    @property
    def is_locked(self) -> bool:
        """Whether another command holds the lock, such as the one creating the container."""
        if self._lock >= 0:
            return False
        try:
            fd = os.open(self.path, _OPEN_DIRECTORY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    # --- the record ----------------------------------------------------------------------------

    def save(self, state: State) -> None:
        """Write state.json."""
        self._write(_STATE, jsontext.dumps(state.fields()))

    def open_process(self) -> None:
        """Create the file of the process, for a child that cannot reach it by name later."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._process = os.open(f"{self.file(_PROCESS)}.new", flags, 0o600)

    @property
    def process_file(self) -> int:
        """The descriptor that `announce` writes to."""
        return self._process

    def save_process(self, state: State) -> None:
        """Record the process's pid and start time."""
        path = self.file(_PROCESS)
        os.write(self._process, f"{state.pid} {state.start_time}".encode())
        os.rename(f"{path}.new", path)

    def announce(self) -> None:
        """Record that the container is created."""
        os.write(self._process, b" created")

    def tells_of(self, state: State) -> bool:
        """Whether the recorded process is the one of this state."""
        try:
            return self._read(_PROCESS).split()[:2] == [str(state.pid), str(state.start_time)]
        except StateError:
            return False

    def load(self) -> State:
        """Read the state. Raises StateError if the container is incomplete or a file is broken."""
        text = self._read(_STATE)
        try:
            return state_of(jsontext.loads(text)).replace(**self._progress())
        except (ValueError, TypeError, KeyError) as error:
            raise StateError(
                f"is broken: {error}", at=self.file(_STATE), remedy="delete it with --force"
            ) from None

    def _progress(self) -> dict[str, object]:
        """What was recorded after state.json was written."""
        if not os.path.exists(self.file(_PROCESS)):
            return {}
        pid, start, *more = self._read(_PROCESS).split()
        if more not in ([], ["created"]):
            raise ValueError(f"{_PROCESS} ends in {more}")
        phase = "created" if more else "creating"
        return {"pid": int(pid), "start_time": int(start), "phase": phase}

    def save_config(self, text: str) -> None:
        """Store a copy of the configuration."""
        self._write(_CONFIG, text)

    def load_config(self) -> str:
        """The configuration as it was at create."""
        return self._read(_CONFIG)

    def file(self, name: str) -> str:
        """The path of a file of this container."""
        return os.path.join(self.path, name)

    def remove(self) -> None:
        """Remove the directory and its files. Only the runtime writes there."""
        for name in os.listdir(self.path):
            os.unlink(self.file(name))
        os.rmdir(self.path)
        self.close()

    def _write(self, name: str, text: str) -> None:
        path = self.file(name)
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        data = text.encode()
        while data:
            data = data[os.write(fd, data) :]
        os.close(fd)
        os.rename(f"{path}.new", path)

    def _read(self, name: str) -> str:
        try:
            return read_text(self.file(name))
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            raise StateError(
                "was not created completely",
                at="container",
                value=self.id,
                remedy="delete it with --force",
            ) from None

    # --- the FIFOs for `start` -----------------------------------------------------------------

    def make_fifos(self) -> tuple[int, int]:
        """
        Create the FIFOs; returns the child's ends: (to read from, to write to).

        They are opened in both directions, so that there is neither an end of file nor a missing
        reader.
        """
        fds = []
        for name in (_IN, _OUT):
            os.mkfifo(self.file(name), 0o600)
            fds.append(os.open(self.file(name), os.O_RDWR | os.O_CLOEXEC))
        return fds[0], fds[1]

    def open_fifos(self) -> tuple[int, int]:
        """The ends for `start`: (to read from, to write to)."""
        reader = os.open(self.file(_OUT), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(reader, True)
        return reader, os.open(self.file(_IN), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def remove_fifos(self) -> None:
        """Remove the FIFOs: the child no longer waits."""
        for name in (_IN, _OUT):
            os.unlink(self.file(name))

    @property
    def awaits_start(self) -> bool:
        """Whether `start` was not called yet."""
        return os.path.exists(self.file(_IN))


def ids(root: str) -> list[str]:
    """The ids of all containers, sorted; none if the root does not exist."""
    try:
        names = os.listdir(root)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if name[:1] in _FIRST and _is_directory(root, name))


def _is_directory(root: str, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(os.path.join(root, name)).st_mode)
    except FileNotFoundError:
        return False
