"""The directory of a container's state; the package's docstring lists its files."""

from __future__ import annotations

import errno
import fcntl

from ..errors import HostError, KernelError, StateError
from ..kernel import descriptors, safe_path
from ..kernel.files import read_bytes
from ..kernel.safe_path import Directory
from ..lean import jsontext, os
from .record import state_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from .record import State

GROUPS, NOTIFY = "groups", "notify"  # what few containers have: `state.groups`
_STATE = "state.json"
_PROCESS = "process"
_CONFIG = "config.json"
_IN, _OUT = "start.in", "start.out"
_LAST_PID = 1 << 22  # PID_MAX_LIMIT: proc_sys_kernel(5)
_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-")
_REST = _FIRST | {"."}
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READABLE = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


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


def open_root(path: str, *, create: bool = False) -> Directory:
    """
    Open a state root; with create, it and its parents are created if missing.

    Raises HostError if another user could change what is in it (`kernel.safe_path`) or if only root
    can enter it, and KernelError.
    """
    try:
        opened = safe_path.open_directory(path, create=create)
    except HostError as error:
        choice = "choose a --root that no other user can write to or replace"
        error.fault.remedy = ", or ".join(filter(None, (error.fault.remedy, choice)))
        raise
    except KernelError as error:
        if error.errno == errno.EACCES:  # which the host's root never gets
            raise HostError.needs_root(f"the state in {path}", errno.EACCES) from None
        raise
    if os.geteuid() != 0 and not _can_be_entered(opened):
        opened.close()
        raise HostError.needs_root(f"the state in {path}", errno.EACCES)
    return opened


def _can_be_entered(opened: Directory) -> bool:
    try:
        os.stat(".", dir_fd=opened.fd)
    except PermissionError:
        return False
    return True


class StateDir:
    """
    The directory of one container.

    It and the root are opened once, and everything is done below their descriptors: even if they
    are renamed or replaced, this object refers to the same directory.
    """

    def __init__(self, root: str, id: str, opened: Directory | None = None) -> None:
        """The root may be open already: `opened`."""
        check_id(id)
        self.id = id
        self.path = os.path.join(root, id)
        self._root_path = root
        self._root = opened
        self._directory: Directory | None = None
        self._lock = -1
        self._process = -1
        self._drafted: State | None = None

    def reserve(self) -> None:
        """
        Create the directory and lock it.

        Raises StateError if the id is taken, HostError if the root is not ours, and KernelError.
        """
        self._root = open_root(self._root_path, create=True)
        try:
            os.mkdir(self.id, 0o700, dir_fd=self._root.fd)
        except FileExistsError:
            self.close()
            raise StateError(
                "exists already",
                at="container",
                value=self.id,
                remedy="choose another id, or delete it",
            ) from None
        except OSError as error:
            self.close()
            if error.errno == errno.EACCES:
                what = f"the state in {self._root_path}"
                raise HostError.needs_root(what, errno.EACCES) from None
            raise KernelError.of("mkdir", error.errno or 0, self.path) from None
        self.lock()

    @classmethod
    def open(cls, root: str, id: str, opened: Directory | None = None) -> Self:
        """
        The directory of an existing container; opened is the root, if it is open already.

        Raises StateError if there is none of ours, and HostError if the root is not ours.
        """
        directory = cls(root, id, opened)
        try:
            directory._check_owner(os.fstat(directory._fd).st_uid)
        except BaseException:
            directory.close()
            raise
        return directory

    @property
    def _fd(self) -> int:
        """The directory's descriptor. Raises StateError if it does not exist."""
        if self._directory is None:
            try:
                self._root = self._root or open_root(self._root_path)
                self._directory = Directory(os.open(self.id, _PLACE, dir_fd=self._root.fd))
            except (KernelError, OSError) as error:
                self._root = None
                if error.errno in (errno.ENOENT, errno.ENOTDIR):  # a link is no directory either
                    raise self._missing() from None
                if isinstance(error, KernelError):
                    raise
                raise KernelError.of("open", error.errno or 0, self.path) from None
        return self._directory.fd

    def __enter__(self) -> Self:
        self.lock()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lock(self, *, wait: bool = True) -> bool:
        """
        Lock this container against other commands; a second call does nothing.

        Without wait, returns False if another command holds the lock. Raises StateError if the
        container was deleted by the time the lock was released.
        """
        if self._lock >= 0:
            return True
        try:
            self._lock = descriptors.open_lock(".", _READABLE, dir_fd=self._fd)
            fcntl.flock(self._lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(self._lock)
            if status.st_nlink == 0:  # deleted by the previous holder of the lock
                raise self._missing()
            self._check_owner(status.st_uid)
        except BlockingIOError:
            self.unlock()
            return False
        except BaseException:
            self.unlock()
            raise
        return True

    def _missing(self) -> StateError:
        return StateError(
            "does not exist",
            at="container",
            value=self.id,
            remedy=f"`pycontain list` shows the containers in {self._root_path}",
        )

    def _check_owner(self, owner: int) -> None:
        """
        Raises StateError unless the directory is ours.

        Another user who can write to the root could have put a state there, and `exec` would start
        a program, as us, wherever that state says.
        """
        us = os.geteuid()
        if owner != us:
            raise StateError(
                f"belongs to user {owner}, not to user {us}, so it is not trusted",
                at=self.path,
                remedy=f"choose a --root that only user {us} can write to",
            )

    def unlock(self) -> None:
        """Release the lock."""
        descriptors.release_lock(self._lock)
        descriptors.close_owned(self, "_lock")

    def release(self) -> None:
        """
        Release the lock, and close the file of the process.

        The directory stays open: a later `lock` locks the same one, even if its id was reused.
        """
        descriptors.release_lock(self._lock)
        descriptors.close_owned(self, "_lock", "_process")

    def close(self) -> None:
        """
        Close all descriptors, which also releases the lock.

        Those of the directories would otherwise be closed with the last reference to this object,
        which an error's traceback may keep.
        """
        self.release()
        self._root = self._directory = None

    @property
    def is_locked(self) -> bool:
        """Whether another command holds the lock, such as the one creating the container."""
        if self._lock >= 0:
            return False
        fd = descriptors.open_lock(".", _READABLE, dir_fd=self._fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            descriptors.close_locked(fd)
        return False

    # --- the record ----------------------------------------------------------------------------

    def draft(self, state: State) -> None:
        """
        Write what state.json will be once the container's cgroup exists.

        If this process is killed before that, the draft shows what it may have created.
        """
        self._write_new(_STATE, jsontext.dumps(state.fields()))
        self._drafted = state

    def save(self, state: State) -> None:
        """Write state.json, or rename the draft to it if the state has not changed since."""
        if self._drafted != state:
            self.draft(state)
        self._publish(_STATE)
        self._drafted = None

    def load_draft(self) -> State | None:
        """The draft that a killed process has left; None if it left no complete one."""
        try:
            return state_of(jsontext.loads(self._read(f"{_STATE}.new")))
        except (StateError, ValueError, TypeError, KeyError):
            return None

    def open_process(self) -> None:
        """Create the file of the process, for a child that cannot reach it by name later."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(f"{_PROCESS}.new", flags, 0o600, dir_fd=self._fd)
        descriptors.replace_owned(self, "_process", fd)

    @property
    def process_file(self) -> int:
        """The descriptor that `announce` writes to."""
        return self._process

    def save_process(self, state: State) -> None:
        """Record the process's pid and start time, also when another process replaces it."""
        if self._has(_PROCESS):
            self.open_process()
        os.write(self._process, f"{state.pid} {state.start_time}".encode())
        self._publish(_PROCESS)

    def announce(self) -> None:
        """
        Record that the container is created.

        Raises StateError if the record was removed meanwhile: nobody could start the container, or
        find its process and kill it.
        """
        os.write(self._process, b" created")
        if os.fstat(self._process).st_nlink == 0:
            raise StateError(
                "was removed while the container was being created",
                at=self.path,
                remedy="look for a hook, or a cleaner of files, that removes what is in --root",
            )

    @property
    def identity(self) -> tuple[int, int]:
        """(device, inode) of the directory."""
        status = os.fstat(self._fd)
        return status.st_dev, status.st_ino

    @property
    def has_vanished(self) -> bool:
        """Whether the directory, which is open, was removed."""
        return os.fstat(self._fd).st_nlink == 0

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
        except (ValueError, TypeError) as error:
            raise StateError(
                f"is broken: {error}", at=self.file(_STATE), remedy="delete it with --force"
            ) from None

    def _progress(self) -> dict[str, object]:
        """What was recorded after state.json was written."""
        if not self._has(_PROCESS):
            return {}
        pid, start, *more = self._read(_PROCESS).split()
        if more not in ([], ["created"]):
            raise ValueError(f"{_PROCESS} ends in {more}")
        phase = "created" if more else "creating"
        if not 0 < int(pid) <= _LAST_PID:
            raise ValueError(f"{_PROCESS} names the pid {pid}")
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

    def device_file(self, index: int) -> str:
        """The path of a device file that is being prepared for a user namespace."""
        return self.file(f"device.{index}")

    def remove(self) -> None:
        """
        Remove the directory and its files. Only the runtime writes there.

        Raises StateError if another command has removed it.
        """
        fd = self._reopened()
        try:
            if os.fstat(fd).st_nlink == 0:  # its name may be another directory's by now
                raise self._missing()
            names = os.listdir(fd)
            if GROUPS in names or NOTIFY in names:
                from . import groups

                names = groups.remove(fd, names)
            for name in names:
                os.unlink(name, dir_fd=fd)
        finally:
            os.close(fd)
        assert self._root is not None, "_reopened has opened it"
        os.rmdir(self.id, dir_fd=self._root.fd)
        self.close()

    def _reopened(self) -> int:
        """A new descriptor of the directory, for listing it."""
        return os.open(".", _READABLE, dir_fd=self._fd)

    def _has(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _write(self, name: str, text: str) -> None:
        self._write_new(name, text)
        self._publish(name)

    def _write_new(self, name: str, text: str) -> None:
        """Write a file under a temporary name."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(f"{name}.new", flags, 0o600, dir_fd=self._fd)
        try:
            data = text.encode()
            while data:
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)

    def _publish(self, name: str) -> None:
        """Rename a complete file to its final name."""
        os.rename(f"{name}.new", name, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def _read(self, name: str) -> str:
        try:
            return read_bytes(name, self._fd, self.file(name)).decode()
        except UnicodeDecodeError:
            raise KernelError("is not UTF-8 text", at=self.file(name)) from None
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
            os.mkfifo(name, 0o600, dir_fd=self._fd)
            fds.append(os.open(name, os.O_RDWR | os.O_CLOEXEC, dir_fd=self._fd))
        return fds[0], fds[1]

    def open_fifos(self) -> tuple[int, int]:
        """The ends for `start`: (to read from, to write to)."""
        flags = os.O_NONBLOCK | os.O_CLOEXEC
        reader = os.open(_OUT, os.O_RDONLY | flags, dir_fd=self._fd)
        os.set_blocking(reader, True)
        return reader, os.open(_IN, os.O_WRONLY | flags, dir_fd=self._fd)

    def remove_fifos(self) -> None:
        """Remove the FIFOs: the child no longer waits."""
        for name in (_IN, _OUT):
            os.unlink(name, dir_fd=self._fd)

    @property
    def awaits_start(self) -> bool:
        """Whether `start` was not called yet."""
        return self._has(_IN)


def directories(root: str) -> Iterator[StateDir]:
    """
    The directories of all containers of ours, sorted by id; none if the root does not exist.

    Raises as `open_root`.
    """
    try:
        opened = open_root(root)
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return
        raise
    for name in _ids(opened, root):
        try:
            yield StateDir.open(root, name, opened)
        except StateError:
            continue  # deleted meanwhile, or another user's


def ids(root: str) -> list[str]:
    """The ids of all containers of ours, sorted; none if the root does not exist."""
    return [directory.id for directory in directories(root)]


def _ids(opened: Directory, root: str) -> list[str]:
    try:
        fd = os.open(".", _READABLE, dir_fd=opened.fd)
    except OSError as error:
        raise KernelError.of("open", error.errno or 0, root) from None
    try:
        with os.scandir(fd) as entries:
            return sorted(
                entry.name
                for entry in entries
                if entry.name[0] in _FIRST and entry.is_dir(follow_symlinks=False)
            )
    finally:
        os.close(fd)
