"""User namespaces by descriptor, and the ids that they map. user_namespaces(7)."""

from __future__ import annotations

import _signal
import errno

from ..errors import KernelError, StateError
from ..lean import os
from . import calls
from . import const as c
from .descriptors import close_owned
from .files import read_bytes
from .rights import sets_groups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from .wait import Until

    Map: TypeAlias = tuple[tuple[int, int, int], ...]  # (first inside, first outside, how many)


_NOBODY = 65534


class _Keeper:
    """
    A process that does nothing but be in a user namespace, until this one has seen what it needs.

    namespace  a descriptor of the one that it enters; -1 to create a new one
    until      what ends the wait for it: a user with its uid may have stopped it

    Nobody who is in that namespace may inspect it: it is not dumpable. Raises KernelError.
    """

    def __init__(self, until: Until, namespace: int = -1) -> None:
        self.namespace = namespace
        self.until = until
        ready, self.writer = os.pipe2(os.O_CLOEXEC)
        self.reader, answers = os.pipe2(os.O_CLOEXEC)
        pid, self.pidfd = _clone(c.CLONE_NEWUSER if namespace < 0 else 0)
        if pid == 0:
            self._keep(ready, answers)
        os.close(ready)
        os.close(answers)
        self.directory = -1
        try:
            self._open_directory(pid)
        except BaseException:
            self.__exit__()
            raise

    def _keep(self, ready: int, answers: int) -> None:
        try:
            close_owned(self, "reader", "writer")  # or it would hold its pipe open itself
            if self.namespace >= 0:
                # which ids its root has is not known yet
                enter(self.namespace, c.CLONE_NEWUSER, _NOBODY, _NOBODY)
            os.write(answers, b"0")
            os.read(ready, 1)  # nothing: until the other end is closed
        except KernelError as error:
            os.write(answers, str(error.errno).encode())
        finally:
            os._exit(0)

    def _open_directory(self, pid: int) -> None:
        """
        Open its directory in /proc, which is of no other process even once it has ended.

        Others can kill it, and its parent may have chosen not to wait for its children: then the
        number is free for a process whose ids somebody else has chosen.
        """
        try:
            self.directory = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _gone() from None
        self._require_exists()

    def _require_exists(self) -> None:
        try:
            calls.send_signal(self.pidfd, 0)
        except KernelError:
            raise _gone() from None

    def __enter__(self) -> str:
        """Its directory in /proc. Raises KernelError if it cannot enter it, and as `until`."""
        try:
            self.until.wait(self.reader)
            answer = os.read(self.reader, 16)
            if not answer:
                raise _gone()
            if int(answer):
                raise KernelError.of("setns", int(answer))
        except BaseException:
            self.__exit__()
            raise
        return f"/proc/self/fd/{self.directory}"

    def __exit__(self, *_: object) -> None:
        close_owned(self, "reader", "writer", "directory")
        try:
            calls.send_signal(self.pidfd, _signal.SIGKILL)
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        except (KernelError, ChildProcessError):
            pass  # this program does not wait for its children
        close_owned(self, "pidfd")


def _gone() -> StateError:
    return StateError("has been killed", at="the process that looks at the user namespace")


def _clone(flags: int) -> tuple[int, int]:
    try:
        return calls.clone3(flags)
    except KernelError as error:
        if error.errno == errno.ENOSPC:  # user_namespaces(7)
            error.fault.remedy = "raise /proc/sys/user/max_user_namespaces"
        raise


def user_namespace(
    uids: Map,
    gids: Map,
    at: tuple[str, str],
    until: Until,
    write: Callable[[str, Map, str], None] | None = None,
) -> int:
    """
    A new user namespace with these mappings, which belongs to this process's user.

    at     the JSON paths of the two maps, for errors
    write  writes a map to a file in /proc, in place of one write to it

    Raises KernelError, and what `until` and `write` raise.
    """
    with _Keeper(until) as directory:
        for name, mapped, field in (("uid_map", uids, at[0]), ("gid_map", gids, at[1])):
            (write or _write_map)(f"{directory}/{name}", mapped, field)
        try:
            return os.open(f"{directory}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError.of("open", error.errno or 0, f"{directory}/ns/user") from None


def _write_map(file: str, mapped: Map, at: str) -> None:
    """The kernel accepts one write, of all lines."""
    name = file.rpartition("/")[2]
    lines = "".join(f"{inside} {outside} {size}\n" for inside, outside, size in mapped)
    fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, lines.encode())
    except OSError as error:
        refused = KernelError.of(f"write {name}", error.errno or 0, at)
        if error.errno == errno.EPERM:
            refused.fault.remedy = "map ids that the runtime's own user namespace has"
        raise refused from None
    finally:
        os.close(fd)


def mappings(namespace: int, until: Until) -> tuple[Map, Map]:
    """
    The maps for uids and gids of an existing user namespace.

    Raises KernelError, and what `until` raises.
    """
    with _Keeper(until, namespace) as directory:
        return mappings_of(directory)


def mappings_of(directory: str) -> tuple[Map, Map]:
    """Those of the process with this directory in /proc, as seen from here. Raises KernelError."""
    return _read_map(f"{directory}/uid_map"), _read_map(f"{directory}/gid_map")


def _read_map(file: str) -> Map:
    mapped = []
    for line in read_bytes(file).splitlines():
        inside, outside, size = map(int, line.split())
        mapped.append((inside, outside, size))
    return tuple(mapped)


def is_own(namespace: int) -> bool:
    """Whether this is the user namespace of this process."""
    return os.path.samestat(os.fstat(namespace), os.stat("/proc/self/ns/user"))


def take_root(uid: int, gid: int) -> None:
    """
    Take the ids that root of a user namespace has on the host, before it is entered.

    So that this process has no right of the host's root there, not even for a moment: it keeps its
    capabilities, which it loses by entering (capabilities(7), SECBIT_NO_SETUID_FIXUP). Nobody in
    the namespace may inspect it; a change of ids resets that.
    """
    calls.prctl(c.PR_SET_SECUREBITS, c.SECBIT_NO_SETUID_FIXUP, name="PR_SET_SECUREBITS")
    calls.set_identity(uid, gid, () if sets_groups() else None)
    calls.prctl(c.PR_SET_DUMPABLE, 0, name="PR_SET_DUMPABLE")


def enter(fd: int, kinds: int, uid: int, gid: int) -> None:
    """
    Enter a user namespace whose root has these ids on the host, and others with it, as setns(2).

    Whoever is in it may be hostile, and has every capability there. So this process is not
    dumpable, which entering can reset as a change of ids does: proc_sys_fs(5), suid_dumpable.
    """
    take_root(uid, gid)
    calls.setns(fd, kinds)
    calls.prctl(c.PR_SET_DUMPABLE, 0, name="PR_SET_DUMPABLE")


def map_ids(tree: int, namespace: int, *, recursive: bool) -> None:
    """
    Map the ids of a detached mount as a user namespace does. mount_setattr(2), MOUNT_ATTR_IDMAP.

    Raises KernelError, with EINVAL for a file system that cannot do that.
    """
    calls.mount_setattr(tree, set=c.MOUNT_ATTR_IDMAP, recursive=recursive, user=namespace)
