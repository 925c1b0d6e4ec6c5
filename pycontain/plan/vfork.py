"""
When the child may live in its parent's memory until execve, as one of vfork(2) does, and when not.

A child of vfork copies no memory, which is half of what a forked one costs. Meanwhile the parent
sleeps, and whoever reads or damages the child's memory reads or damages the parent's.
"""

from __future__ import annotations

from ..kernel import const as c
from ..lean.record import Record
from . import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..spec.records import Hook, Process, Rlimit
    from .namespaces import Namespaces
    from .request import Request
    from .seccomp import Profile

_PAGE = 4096  # bytes; what is written to the state directory meanwhile is shorter
_ROOMY = 64 << 20  # bytes; what the kernel keeps for a container's mounts is a hundredth of it


class Circumstances(Record):
    """
    What decides it.

    hooks    those that run before the program
    limits   the step that limits the cgroup, None without one
    mounts   the steps that mount
    """

    request: Request
    hooks: tuple[Hook, ...]
    process: Process
    profile: Profile | None
    namespaces: Namespaces
    limits: steps.LimitCgroup | None
    mounts: tuple[steps.Step, ...]


def _is_supervised(found: Circumstances) -> bool:
    return bool(found.request.pid_file or found.request.pidfd_socket)


def _is_preferred_victim(found: Circumstances) -> bool:
    return (found.process.oomScoreAdj or 0) > 0


def _cannot_write(found: Circumstances) -> bool:
    return any(_keeps_from_writing(limit) for limit in found.process.rlimits)


def _keeps_from_writing(limit: Rlimit) -> bool:
    return limit.type == "RLIMIT_FSIZE" and limit.soft < _PAGE


def _filters_early(found: Circumstances) -> bool:
    return found.profile is not None and not found.process.noNewPrivileges


def _joins_pids(found: Circumstances) -> bool:
    return c.CLONE_NEWPID in found.namespaces.joined


def _has_time_namespace(found: Circumstances) -> bool:
    return found.namespaces.has(c.CLONE_NEWTIME)


def _copies(found: Circumstances) -> bool:
    return any(isinstance(step, steps.MountFilesystem) and step.copy_up for step in found.mounts)


def _has_little_memory(found: Circumstances) -> bool:
    settings = found.limits.settings if found.limits is not None else ()
    limits = [setting.value for setting in settings if setting.file == "memory.max"]
    return any(not (text.isdigit() and int(text) >= _ROOMY) for text in limits if text != "max")


# (why the child is forked, whether that is so): the first that holds is the reason
REASONS: tuple[tuple[str, Callable[[Circumstances], bool]], ...] = (
    ("the parent must not sleep until `start`", lambda found: found.request.separate_start),
    ("hooks run while the child waits", lambda found: bool(found.hooks)),
    ("a supervisor learns its pid before the program runs", _is_supervised),
    ("the out-of-memory killer, which prefers it, would end the parent, too", _is_preferred_victim),
    ("RLIMIT_FSIZE keeps it from writing the state", _cannot_write),
    ("a system call filter could kill it half-way", _filters_early),
    ("processes of the joined pid namespace could look into its memory", _joins_pids),
    ("a time namespace takes no process that shares memory", _has_time_namespace),
    ("tmpcopyup can take more memory than there is", _copies),
    ("it could run out of memory, with less than 64 MiB", _has_little_memory),
)


def why_fork(found: Circumstances) -> str:
    """Why the child needs memory of its own; "" when it can share the parent's."""
    return next((reason for reason, holds in REASONS if holds(found)), "")
