"""
Whether the child can share its parent's memory until execve, as with vfork(2), or must be forked.

A child of vfork copies no memory, which is half of the cost of a fork. In return the parent sleeps
meanwhile, and reading or damaging the child's memory means reading or damaging the parent's.
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

_PAGE = 4096  # bytes; what the child writes to the state directory is shorter
_ROOMY = 64 << 20  # bytes; a container's mounts take a hundredth of it in the kernel


class Circumstances(Record):
    """
    What the decision depends on.

    hooks    the hooks that run before the program
    limits   the step that limits the cgroup, None without one
    mounts   the steps that mount
    engine   of the program's virtual machine, "" without one
    """

    request: Request
    hooks: tuple[Hook, ...]
    process: Process
    profile: Profile | None
    namespaces: Namespaces
    limits: steps.LimitCgroup | None
    mounts: tuple[steps.Step, ...]
    engine: str = ""


def _has_unit(case: Circumstances) -> bool:
    return bool(case.request.systemd)


def _is_supervised(case: Circumstances) -> bool:
    return bool(case.request.pid_file or case.request.pidfd_socket)


def _is_preferred_victim(case: Circumstances) -> bool:
    return (case.process.oomScoreAdj or 0) > 0


def _cannot_write(case: Circumstances) -> bool:
    return any(_keeps_from_writing(limit) for limit in case.process.rlimits)


def _keeps_from_writing(limit: Rlimit) -> bool:
    return limit.type == "RLIMIT_FSIZE" and limit.soft < _PAGE


def _filters_early(case: Circumstances) -> bool:
    return case.profile is not None and not case.process.noNewPrivileges


def _listens(case: Circumstances) -> bool:
    return case.profile is not None and bool(case.profile.listener)


def _moves_devices(case: Circumstances) -> bool:
    return bool(case.namespaces.devices)


def _joins_pids(case: Circumstances) -> bool:
    return c.CLONE_NEWPID in case.namespaces.joined


def _has_user_namespace(case: Circumstances) -> bool:
    return case.namespaces.has_user


def _has_time_namespace(case: Circumstances) -> bool:
    return case.namespaces.has(c.CLONE_NEWTIME)


def _copies(case: Circumstances) -> bool:
    return any(isinstance(step, steps.MountFilesystem) and step.copy_up for step in case.mounts)


def _has_little_memory(case: Circumstances) -> bool:
    settings = case.limits.settings if case.limits is not None else ()
    limits = [setting.value for setting in settings if setting.file == "memory.max"]
    return any(not (text.isdigit() and int(text) >= _ROOMY) for text in limits if text != "max")


# (why the child is forked, whether that applies): the first that applies is the reason
REASONS: tuple[tuple[str, Callable[[Circumstances], bool]], ...] = (
    ("the parent must not sleep until `start`", lambda case: case.request.separate_start),
    ("it becomes the monitor of a virtual machine", lambda case: bool(case.engine)),
    ("hooks run while the child waits", lambda case: bool(case.hooks)),
    ("systemd moves it into its cgroup", _has_unit),
    ("a supervisor is given its pid before the program runs", _is_supervised),
    ("the out-of-memory killer prefers it, and would kill the parent, too", _is_preferred_victim),
    ("RLIMIT_FSIZE keeps it from writing the state", _cannot_write),
    ("a system call filter could kill it half-way", _filters_early),
    ("the parent sends its listener to an agent", _listens),
    ("the parent gives it network devices", _moves_devices),
    ("it creates the program's process in the joined pid namespace", _joins_pids),
    ("another process, in the user namespace, creates it", _has_user_namespace),
    ("a process that shares memory cannot enter a time namespace", _has_time_namespace),
    ("tmpcopyup can exceed the available memory", _copies),
    ("it could run out of memory, limited to less than 64 MiB", _has_little_memory),
)


def why_fork(case: Circumstances) -> str:
    """Why the child needs memory of its own; "" if it can share the parent's."""
    return next((reason for reason, holds in REASONS if holds(case)), "")
