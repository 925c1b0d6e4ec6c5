"""
The process of config.json to steps: what create, run and exec have in common.

config.md, Process; capabilities(7); sched_setattr(2); ioprio_set(2); personality(2).
"""

from __future__ import annotations

from ..spec.check import unknown_capabilities
from ..spec.names import (
    CAPABILITIES,
    IO_CLASSES,
    PERSONALITIES,
    RLIMITS,
    SCHEDULER_FLAGS,
    SCHEDULER_POLICIES,
    SECCOMP_ACTIONS,
)
from ..spec.records import Capabilities
from . import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..spec.records import Linux, Process, Rlimit
    from .facts import Facts
    from .seccomp import Profile

_IO_CLASS_SHIFT = 13
_DEFAULT_UMASK = 0o022
# These limit what this process itself still needs: memory for execve, and files for its hooks.
_LATE_LIMITS = ("RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_FSIZE")
_NEEDED = {"inheritable": "bounding", "effective": "permitted"}


def filter_profile(linux: Linux) -> Profile | None:
    """The system call filter, if one is configured; only then are its tables loaded."""
    if linux.seccomp is None:
        return None
    from .seccomp import profile

    return profile(linux.seccomp)


def scheduling_steps(process: Process, linux: Linux) -> list[steps.Step]:
    """Scheduler, I/O priority and execution domain."""
    made: list[steps.Step] = []
    if (wanted := process.scheduler) is not None:
        flags = 0
        for name in wanted.flags:
            flags |= SCHEDULER_FLAGS[name]
        made.append(
            steps.SetScheduler(
                why="process.scheduler",
                policy=SCHEDULER_POLICIES[wanted.policy],
                flags=flags,
                nice=wanted.nice,
                priority=wanted.priority,
                runtime=wanted.runtime,
                deadline=wanted.deadline,
                period=wanted.period,
            )
        )
    if (io := process.ioPriority) is not None:
        priority = IO_CLASSES[io.class_] << _IO_CLASS_SHIFT | io.priority
        made.append(steps.SetIoPriority(priority=priority, why="process.ioPriority"))
    if linux.personality is not None:
        persona = PERSONALITIES[linux.personality.domain]
        made.append(steps.SetPersonality(persona=persona, why="linux.personality"))
    return made


def identity_steps(
    process: Process, facts: Facts, profile: Profile | None, takes_files: bool
) -> list[steps.Step]:
    """
    From root to the container's user, in the only order that works.

    Loading a system call filter needs CAP_SYS_ADMIN or no_new_privs (seccomp(2)): without the
    latter it must happen before the capabilities are dropped, otherwise it is done last.
    A process without `capabilities` gets none: it must not inherit the caller's.
    """
    made: list[steps.Step] = []
    if profile is not None and not process.noNewPrivileges:
        made.append(steps.LoadSeccomp(flags=profile.flags, why="linux.seccomp"))
    sets = process.capabilities or Capabilities(at="process.capabilities")
    granted = _granted(sets, facts)
    made.append(
        steps.BoundCapabilities(
            keep=granted.pop("bounding"),
            last=facts.last_capability,
            why=f"{sets.at}.bounding",
        )
    )
    user = process.user
    made.append(
        steps.TakeUser(
            uid=user.uid if user else 0,
            gid=user.gid if user else 0,
            groups=user.additionalGids if user else (),
            takes_files=takes_files,
            why="process.user",
        )
    )
    made.append(steps.SetCapabilities(**granted, why=sets.at))
    if process.noNewPrivileges:
        made.append(steps.NoNewPrivileges(why="process.noNewPrivileges"))
    return made


def become_steps(
    process: Process,
    linux: Linux,
    facts: Facts,
    profile: Profile | None,
    *,
    read_only: list[steps.Step] | None = None,
    make_cwd: bool,
    takes_files: bool,
) -> list[steps.Step]:
    """
    From the runtime's process to the container's, ready for execve.

    read_only runs once the working directory exists, while mounting is still permitted.
    takes_files: files among its streams are given to the user, as pipes always are.
    """
    made: list[steps.Step] = [
        steps.StartSession(umask=umask(process), why="process.user.umask"),
        *scheduling_steps(process, linux),
        steps.EnterDirectory(path=process.cwd, make=make_cwd, why="process.cwd"),
        *(read_only or ()),
        *rlimit_steps(process, profile),
        *identity_steps(process, facts, profile, takes_files),
    ]
    if process.args:
        made.append(
            steps.FindProgram(
                args=process.args, env=process.env, why="a missing program fails early"
            )
        )
    return made


def terminal_step(
    process: Process, window: tuple[int, int], plain: bool, *, console: bool
) -> steps.OpenTerminal:
    """A terminal for the process, of the size of the caller's if it is served."""
    size = process.consoleSize
    rows, columns = window if any(window) or not size else (size.height, size.width)
    return steps.OpenTerminal(
        rows=rows,
        columns=columns,
        uid=process.user.uid if process.user else 0,
        mount=console,
        plain=plain,
        why="process.terminal",
    )


def umask(process: Process) -> int:
    """The file mode mask; 0022 by default, as in runc and crun."""
    if process.user is None or process.user.umask is None:
        return _DEFAULT_UMASK
    return process.user.umask


def last_steps(
    process: Process, profile: Profile | None, preserve_fds: int, listen_fds: int = 0
) -> tuple[list[steps.Step], list[steps.Step]]:
    """What is left after `start`: (before the startContainer hooks, after them)."""
    before: list[steps.Step] = []
    if profile is not None and process.noNewPrivileges:
        before.append(steps.LoadSeccomp(flags=profile.flags, why="linux.seccomp"))
    execute = steps.Execute(
        args=process.args,
        env=process.env,
        preserve_fds=preserve_fds,
        listen_fds=listen_fds,
        why="process.args",
    )
    late = _late_limits(process, profile)
    return before, [*_set_limits(late, "process.rlimits, after steps they could break"), execute]


def rlimit_steps(process: Process, profile: Profile | None) -> list[steps.Step]:
    """Resource limits, except the soft ones of those that are set last. setrlimit(2)."""
    late = _late_limits(process, profile)
    early = tuple(limit for limit in process.rlimits if limit not in late)
    made = _set_limits(early, "process.rlimits")
    if late:
        hard = tuple((limit.type, RLIMITS[limit.type], limit.hard, limit.at) for limit in late)
        made.append(steps.RaiseRlimits(limits=hard, why="process.rlimits[].hard"))
    return made


def _late_limits(process: Process, profile: Profile | None) -> tuple[Rlimit, ...]:
    """
    The limits that are set right before execve, where lowering them needs no capability.

    A filter is loaded earlier; without noNewPrivileges, before the capabilities are dropped. Where
    it may forbid prlimit64(2), no limit is set late: hooks and execve then run within the limits.
    """
    if profile is not None and not _lets_pass(profile, "prlimit64"):
        return ()
    return tuple(limit for limit in process.rlimits if limit.type in _LATE_LIMITS)


def _lets_pass(profile: Profile, call: str) -> bool:
    """Whether a filter certainly allows a system call, whatever its arguments."""
    passing = (SECCOMP_ACTIONS["SCMP_ACT_ALLOW"], SECCOMP_ACTIONS["SCMP_ACT_LOG"])
    rules = [(action, when) for action, names, when in profile.rules if call in names]
    if any(action not in passing for action, _ in rules):
        return False
    return profile.default in passing or any(not when for _, when in rules)


def _set_limits(limits: tuple[Rlimit, ...], why: str) -> list[steps.Step]:
    if not limits:
        return []
    values = tuple(
        (limit.type, RLIMITS[limit.type], limit.soft, limit.hard, limit.at) for limit in limits
    )
    return [steps.SetRlimits(limits=values, why=why)]


def warnings(process: Process | None, facts: Facts) -> list[str]:
    """Requested capabilities that cannot be granted (config.md: log a warning, do not fail)."""
    if process is None or process.capabilities is None:
        return []
    sets = process.capabilities
    found = {
        name: f"{sets.at}: {name} is not a capability that pycontain knows"
        for name in sorted(unknown_capabilities(process))
    }
    # `runc spec` writes ambient ones that are not inheritable: not worth a warning
    can = _granted(sets, facts) | {"ambient": facts.permitted & facts.bounding}
    for kind, granted in can.items():
        for name in sorted(getattr(sets, kind)):
            if name not in found and not granted >> CAPABILITIES[name] & 1:
                found[name] = f"{sets.at}: {name} {_why_not(name, kind, facts)}"
    return list(found.values())


def _why_not(name: str, kind: str, facts: Facts) -> str:
    """Why a known capability is missing from a set."""
    available = facts.permitted & facts.bounding
    if kind not in _NEEDED or not available >> CAPABILITIES[name] & 1:
        return "cannot be granted on this host"
    return f"is requested as {kind}, but not as {_NEEDED[kind]}"


def _granted(sets: Capabilities, facts: Facts) -> dict[str, int]:
    """
    The sets that can be granted, as bit masks; nothing is inheritable unless requested by name.

    Inheritable sets filled without a request were CVE-2022-29162 and three more. What becomes
    inheritable must be in the bounding set, which is reduced first: capset(2), EPERM.
    """
    bounding = _mask(sets.bounding, facts.bounding)
    permitted = _mask(sets.permitted, facts.permitted)
    inheritable = _mask(sets.inheritable, facts.permitted & bounding)
    return {
        "bounding": bounding,
        "permitted": permitted,
        "inheritable": inheritable,
        "effective": _mask(sets.effective, permitted),
        "ambient": _mask(sets.ambient, permitted & inheritable),
    }


def _mask(names: tuple[str, ...], available: int) -> int:
    mask = 0
    for name in names:
        mask |= 1 << CAPABILITIES.get(name, 63)
    return mask & available & ~(1 << 63)
