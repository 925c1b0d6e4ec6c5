"""A child that shares this process's memory until execve(2): clone(2), CLONE_VM, CLONE_VFORK."""

from __future__ import annotations

from ..errors import KernelError
from . import _vfork, calls
from . import const as c
from ._ffi import ffi
from .wait import FOREVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ._vfork import Program
    from .wait import Until


def spawn(
    flags: int,
    cgroup: int,
    live: Callable[[int, int], Program],
    refuse: Callable[[int], object],
    recovery: tuple[bytes, ...],
    until: Until = FOREVER,
) -> tuple[int, int]:
    """
    Create a child and wait until it has executed its program; returns its pid and pidfd.

    flags   namespaces, for clone3
    cgroup  a descriptor of the cgroup that it starts in, -1 for the caller's
    live    called in the child with its pid and pidfd, as the parent sees them; returns (path,
            arguments, environment) to execute
    refuse  called in the child with the errno if that cannot be executed
    recovery  (path, arguments...) of the program that this process executes if the child is killed
            in `live`, since its memory can then not be trusted. The child's pid is appended
    until   when the child is killed unless it has executed its program

    The pid and pidfd are also returned of a child that is killed before it calls `live`. What
    either function raises is raised here, after the child has exited. Raises KernelError if no
    child could be created.
    """
    pid = ffi.new("int *", 0)
    pidfd = ffi.new("int *", -1)
    flags |= c.CLONE_VM | c.CLONE_VFORK | c.CLONE_PARENT_SETTID
    arguments = calls.clone_arguments(flags, cgroup, pidfd)
    arguments.parent_tid = int(ffi.cast("uintptr_t", pid))
    left = until.left
    result = _vfork.spawn(
        ffi.buffer(arguments),
        lambda: live(pid[0], pidfd[0]),
        refuse,
        recovery,
        until.signals,
        -1 if left is None else int(left * 1000),
    )
    if result < 0:
        raise KernelError.of("clone3", -result)
    return pid[0], pidfd[0]
