"""A child that shares this process's memory until execve(2): clone(2), CLONE_VM, CLONE_VFORK."""

from __future__ import annotations

from ..errors import KernelError
from . import _vfork, calls
from . import const as c
from ._ffi import ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ._vfork import Program


def spawn(
    flags: int,
    cgroup: int,
    live: Callable[[int, int], Program],
    refuse: Callable[[int], object],
    recovery: tuple[bytes, ...],
) -> tuple[int, int]:
    """
    Make a child and wait until it has executed its program; returns its pid and pidfd.

    flags   namespaces, for clone3
    cgroup  a descriptor of the cgroup it is born in, -1 for the caller's
    live    called in the child with its pid and pidfd, which are the parent's; returns (path,
            arguments, environment) to execute
    refuse  called in the child with the errno when that cannot be executed
    recovery  (path, arguments...) of the program that this process becomes when the child is killed
            in `live`: its memory is then not to be trusted. The child's pid is added to it

    A child that is killed at its birth never calls `live`, and then has returned no less. What
    either function raises is raised here, after the child's end. Raises KernelError when there is
    no child.
    """
    pid = ffi.new("int *", 0)
    pidfd = ffi.new("int *", -1)
    flags |= c.CLONE_VM | c.CLONE_VFORK | c.CLONE_PARENT_SETTID
    arguments = calls.clone_arguments(flags, cgroup, pidfd)
    arguments.parent_tid = int(ffi.cast("uintptr_t", pid))
    made = _vfork.spawn(ffi.buffer(arguments), lambda: live(pid[0], pidfd[0]), refuse, recovery)
    if made < 0:
        raise KernelError.of("clone3", -made)
    return pid[0], pidfd[0]
