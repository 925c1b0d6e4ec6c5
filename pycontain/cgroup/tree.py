"""
Cgroups as directories of the cgroup2 file system. cgroups(7), the kernel's admin-guide/cgroup-v2.

A cgroup is named by its path below the mount point, as in /proc/PID/cgroup; its files are opened
through one descriptor of its directory, which is also passed to clone3(2) (CLONE_INTO_CGROUP) and
to bpf(2) for the device filter.
"""

from __future__ import annotations

import errno
import time

from ..errors import KernelError, StateError, Timeout
from ..kernel.descriptors import close_owned, replace_owned
from ..kernel.files import read_bytes
from ..lean import os
from . import controllers
from .place import joined

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..errors import HostError
    from ..plan.resources import Setting

_DIRECTORY = os.O_DIRECTORY | os.O_CLOEXEC
_GONE = (errno.ENOENT, errno.ENODEV)  # ENODEV: the file is open, its cgroup removed


class Cgroup:
    """
    A cgroup, which need not exist yet.

    mount  where cgroup2 is mounted
    path   the cgroup's path below that
    made   the paths that `create` created, outermost first, for `remove`
    """

    __slots__ = ("_fd", "_inode", "made", "mount", "path")

    def __init__(self, mount: str, path: str, made: tuple[str, ...] = ()) -> None:
        self.mount = mount
        self.path = path
        self.made = made
        self._fd = -1
        self._inode = 0

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if self._fd >= 0:
            close(self._fd)

    def __repr__(self) -> str:
        return f"Cgroup({self.directory})"

    @property
    def directory(self) -> str:
        """The cgroup's directory."""
        return self.mount + self.path

    @property
    def fd(self) -> int:
        """An O_PATH descriptor of the directory, opened on first use."""
        if self._fd < 0:
            try:
                self._fd = os.open(self.directory, os.O_PATH | _DIRECTORY)
            except OSError as error:
                raise KernelError.of("open", error.errno or 0, self.directory) from None
        return self._fd

    def close(self) -> None:
        """Close the descriptor; the next use opens it again."""
        close_owned(self, "_fd")

    def below(self, name: str) -> Cgroup:
        """The cgroup at this path inside this one."""
        return Cgroup(self.mount, joined(self.path, name))

    # creation and removal

    def create(self, before: Callable[[tuple[str, ...]], object] | None = None) -> None:
        """
        Create the cgroup and those above it, with all controllers that can be enabled.

        As in runc, these include controllers without a limit, for `events` and a later `update`.

        before  called with what `made` will be, before anything is created; again for each attempt

        Raises StateError for a cgroup that is frozen, has processes in it, or cannot have any.
        """
        try:
            self._make(before, retries=10)
            self._check_fit()
            self.remember()
        except BaseException:
            self.remove()
            raise

    def remember(self) -> None:
        """Remember which cgroup this is, for `is_the_same`."""
        self._inode = os.fstat(self.fd).st_ino

    @property
    def is_new(self) -> bool:
        """Whether `create` created it: then everything in it belongs to the container."""
        return self.path in self.made

    @property
    def is_the_same(self) -> bool:
        """Whether the cgroup at this path is the one that `create` has opened."""
        try:
            return os.stat(self.directory).st_ino == self._inode
        except FileNotFoundError:
            return False

    def _make(self, before: Callable[[tuple[str, ...]], object] | None, retries: int) -> None:
        above, available = "", set(controllers.of(self.mount))
        if before is not None:
            before((*sorted({*self.made, *self._missing()}, key=len),))
        try:
            for name in self.path.strip("/").split("/"):
                controllers.enable(self.mount + above, available)
                above = f"{above}/{name}"
                self._mkdir(above)
        except KernelError as error:
            if error.errno != errno.ENOENT or not retries:
                raise
            # another container's delete removed one above
            self._make(before, retries - 1)

    def _missing(self) -> Iterator[str]:
        """The paths, of this cgroup and those above it, that do not exist."""
        path = self.path
        while path and not os.path.isdir(self.mount + path):
            yield path
            path = path.rpartition("/")[0]

    def _mkdir(self, path: str) -> None:
        try:
            os.mkdir(self.mount + path, 0o755)
            if path not in self.made:
                self.made = (*self.made, path)
            os.chmod(self.mount + path, 0o755)  # whatever the umask, which threads share
        except FileExistsError:
            return
        except OSError as error:
            raise KernelError.of("mkdir", error.errno or 0, self.mount + path) from None

    def _check_fit(self) -> None:
        events = table(self.read("cgroup.events"))
        if events["frozen"] == "1":
            raise StateError(
                "is frozen: the container would hang",
                call="container's cgroup unexpectedly frozen",  # runc's words, as below
                at=self.directory,
                remedy="write 0 to its cgroup.freeze, or to that of a cgroup above it",
            )
        if events["populated"] == "1":
            raise StateError(
                f"already has processes in it: {_listed(self.pids())}",
                call="container's cgroup is not empty",
                at=self.directory,
                remedy="choose another linux.cgroupsPath",
            )
        if not self.is_new:
            controllers.check_can_hold_processes(self.directory)

    def clear(self) -> None:
        """
        Kill what is left in the cgroup, and remove it. Raises Timeout if processes are left.

        A cgroup that existed before is kept, without our device filter. Limits that were written to
        it remain, since their earlier values are not known.
        """
        if not self.is_new:
            self._empty()
        elif _rmdir(self.directory):  # most are empty
            self.made = tuple(path for path in self.made if path != self.path)
        else:
            self.kill()
        self.remove()

    def _empty(self, seconds: float = 10) -> None:
        """Kill what a container left, then remove the filter, without which none of it may run."""
        from . import devices  # late: it loads the binding, which most cgroups do not need

        if os.path.isdir(self.directory):
            self.kill()
            self._wait_for_end(seconds)
            self.put("cgroup.freeze", "0")  # as `create` found it: the container may be paused
            devices.detach(self.fd)

    def remove(self, seconds: float = 10) -> None:
        """
        Remove what `create` created, and what the container created below it.

        Waits for processes that are being killed. A cgroup above stays if others are using it.
        Raises Timeout if processes are left.
        """
        if self.is_new:
            self._remove_own(seconds)
        self.close()
        for path in reversed(self.made):
            if path != self.path and not _rmdir(self.mount + path):
                break
        self.made = ()

    def remove_empty(self) -> None:
        """
        Remove what `create` was about to create when the process was killed.

        We have put no process there; a cgroup in use was just created by another runtime.
        """
        for path in reversed(self.made):
            if not _rmdir(self.mount + path):
                break

    def _remove_own(self, seconds: float) -> None:
        if _rmdir(self.directory):  # an empty one: this works even without a free descriptor
            return
        self._wait_for_end(seconds)
        for parent, name in _descendants(self.fd):
            _rmdir(name, parent)
        if not _rmdir(self.directory):
            raise KernelError.of("rmdir", errno.EBUSY, self.directory)

    def _wait_for_end(self, seconds: float) -> None:
        if not self._until("populated", "0", seconds):
            raise Timeout(
                f"still has processes after {seconds:g} s: {_listed(self.pids())}",
                at=self.directory,
            )

    # processes

    def entrance(self) -> int:
        """A descriptor of cgroup.procs: a process that writes 0 to it enters the cgroup."""
        return self._open("cgroup.procs", os.O_WRONLY)

    def enter(self, pid: int) -> None:
        """Move a process into the cgroup; 0 is the caller."""
        self.put("cgroup.procs", str(pid))

    def pids(self) -> list[int]:
        """The processes in the cgroup and in those below it."""
        pids = _pids_in(self.fd, ".")
        for parent, name in _descendants(self.fd):
            pids += _pids_in(parent, name)
        return sorted(set(pids))

    def kill(self) -> None:
        """
        Kill every process in the cgroup and below it in one step (5.14).

        An empty cgroup is not written to: Linux counts the writes, and since 6.14 it kills a child
        that is created in a cgroup with another count than its parent's (CLONE_INTO_CGROUP).
        """
        if self.populated:
            self.put("cgroup.kill", "1")

    def freeze(self, seconds: float = 10) -> None:
        """
        Stop every process in the cgroup, and wait until they have stopped.

        If one does not stop, because it is in uninterruptible sleep, thaws all and raises Timeout.
        """
        self.put("cgroup.freeze", "1")
        if not self._until("frozen", "1", seconds):
            self.put("cgroup.freeze", "0")
            raise Timeout(f"is not frozen after {seconds:g} s", at=self.directory)

    def thaw(self, seconds: float = 10) -> None:
        """Let the processes continue. Raises Timeout if a cgroup above is frozen."""
        self.put("cgroup.freeze", "0")
        if not self._until("frozen", "0", seconds):
            raise Timeout(
                f"is still frozen after {seconds:g} s",
                at=self.directory,
                remedy="write 0 to cgroup.freeze of the cgroup above that is frozen",
            )

    @property
    def populated(self) -> bool:
        """Whether there are processes in it or below it."""
        return os.path.isdir(self.directory) and self._event("populated") == "1"

    @property
    def frozen(self) -> bool:
        """Whether every process has stopped."""
        return self._event("frozen") == "1"

    def oom_kills(self) -> int | None:
        """How many processes the OOM killer killed here; None without the memory controller."""
        try:
            return int(table(self.read("memory.events"))["oom_kill"])
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return None
            raise

    def _event(self, name: str) -> str:
        return table(self.read("cgroup.events"))[name]

    def _until(self, event: str, value: str, seconds: float) -> bool:
        """Wait for a value in cgroup.events; poll(2) returns when the file changes."""
        import select

        fd = self._open("cgroup.events", os.O_RDONLY)
        try:
            poller = select.poll()
            poller.register(fd, select.POLLPRI)
            end = time.monotonic() + seconds
            while table(os.pread(fd, 4096, 0).decode())[event] != value:
                left = end - time.monotonic()
                if left <= 0:
                    return False
                poller.poll(left * 1000)
            return True
        finally:
            os.close(fd)

    # files

    def write(
        self,
        settings: Iterable[Setting],
        without: Callable[[HostError], None] = controllers.refuse,
    ) -> None:
        """
        Write the limits, in order.

        Calls `without` with the error of a limit whose controller cgroup v2 does not have. Raises
        HostError for one whose controller cannot be enabled, and KernelError for a value that the
        kernel refuses; all name the limit's JSON path.
        """
        for setting in settings:
            self._set(setting, without)

    def _set(self, setting: Setting, without: Callable[[HostError], None]) -> None:
        if self._accepts(setting) or setting.optional:
            return
        if error := controllers.absence(self.mount, setting):
            without(error)
            return
        if error := controllers.provide(self.mount, self.path, setting):
            without(error)
            return
        if self._accepts(setting):
            return
        if not setting.otherwise:
            file = f"{self.directory}/{setting.file}"
            raise controllers.cannot(setting, f"this kernel has no {file}")
        self._set(setting.otherwise, without)

    def _accepts(self, setting: Setting) -> bool:
        """Write one limit; False if the cgroup has no such file."""
        try:
            self.put(setting.file, setting.value)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return False
            error.fault.call = f"write {error.fault.at}"
            error.fault.at, error.fault.value = setting.at, setting.value
            raise
        return True

    def give(self, uid: int) -> None:
        """
        Delegate this cgroup to a user, who then owns its directory and the files for that.

        cgroups(7), Cgroup delegation: the kernel lists those files; they do not include limits.
        """
        for name in (".", *controllers.delegated_files()):
            try:
                os.chown(name, uid, -1, dir_fd=self.fd, follow_symlinks=False)
            except FileNotFoundError:
                continue  # of a controller that is not enabled
            except OSError as error:
                where = f"{self.directory}/{name}"
                raise KernelError.of("chown", error.errno or 0, where) from None

    def read(self, file: str) -> str:
        """The content of one of the cgroup's files."""
        return read_bytes(file, self.fd, f"{self.directory}/{file}").decode()

    def files(self) -> list[str]:
        """The names of the cgroup's files."""
        fd = self._open(".", os.O_RDONLY | _DIRECTORY)
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)

    def put(self, file: str, text: str) -> None:
        """Write to one of the cgroup's files, in one call. Raises KernelError."""
        fd = self._open(file, os.O_WRONLY)
        try:
            os.write(fd, text.encode())
        except OSError as error:
            raise KernelError.of("write", error.errno or 0, f"{self.directory}/{file}") from None
        finally:
            os.close(fd)

    def _open(self, file: str, flags: int) -> int:
        try:
            return os.open(file, flags | os.O_CLOEXEC, dir_fd=self.fd)
        except OSError as error:
            raise KernelError.of("open", error.errno or 0, f"{self.directory}/{file}") from None


# --- parts -------------------------------------------------------------------------------------


def table(text: str) -> dict[str, str]:
    """A flat keyed file: "KEY VALUE" on each line."""
    return dict(line.split(" ", 1) for line in text.splitlines())


def _listed(pids: list[int]) -> str:
    shown = ", ".join(map(str, pids[:5]))
    return f"{shown} and {len(pids) - 5} more" if len(pids) > 5 else shown


def _rmdir(directory: str, parent: int | None = None) -> bool:
    """Remove a cgroup unless it is in use; False if it is."""
    try:
        os.rmdir(directory, dir_fd=parent)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
            return False
        raise KernelError.of("rmdir", error.errno or 0, directory) from None
    return True


def _pids_in(parent: int, name: str) -> list[int]:
    try:
        return [int(line) for line in read_bytes(f"{name}/cgroup.procs", parent).split()]
    except KernelError as error:
        # EOPNOTSUPP: a threaded cgroup, whose processes the nearest domain cgroup above lists
        if error.errno in (*_GONE, errno.EOPNOTSUPP):
            return []
        raise


def _descendants(top: int) -> Iterator[tuple[int, str]]:
    """
    (descriptor of its parent, name) of every cgroup below, the deepest first.

    One descriptor is open at a time and no path is ever built: a container that owns its cgroup
    can nest deeper than the limits of descriptors, recursion and PATH_MAX.
    """
    here = _Directory(top)
    names: list[str] = []
    pending = [_children(here.fd)]
    try:
        while pending[-1] or names:
            if pending[-1]:
                name = pending[-1].pop()
                try:
                    here.go(name)
                except FileNotFoundError:  # a running container removed it
                    continue
                names.append(name)
                pending.append(_children(here.fd))
            else:
                pending.pop()
                here.go("..")
                yield here.fd, names.pop()
    finally:
        close_owned(here, "fd")


class _Directory:
    """The current directory of a walk."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = os.open(".", os.O_RDONLY | _DIRECTORY, dir_fd=fd)

    def go(self, name: str) -> None:
        """Go to a directory in this one, or to "..". Raises OSError."""
        flags = os.O_RDONLY | _DIRECTORY | os.O_NOFOLLOW
        replace_owned(self, "fd", os.open(name, flags, dir_fd=self.fd))


def _children(fd: int) -> list[str]:
    with os.scandir(fd) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
