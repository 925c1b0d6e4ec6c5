"""
The process of config.json to steps: what create, run and exec do alike.

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
# What these limit, this very process needs to become the program: memory, and files for its hooks.
_LATE_LIMITS = ("RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_FSIZE")
_NEEDED = {"inheritable": "bounding", "effective": "permitted"}


def filter_profile(linux: Linux) -> Profile | None:
    """The system call filter, if one is asked for; only then its tables are loaded."""
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
    From root to the container's user, in the one order that works.

    Loading a system call filter needs CAP_SYS_ADMIN or no_new_privs (seccomp(2)): without the
    latter it must happen before the capabilities go, otherwise it waits until the very end.
    A process without `capabilities` has none: the caller's were never meant for it.
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

    read_only comes once the working directory is made, while there is still the right to mount.
    takes_files: the files among its streams become the user's, as pipes do in any case.
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
    """A terminal for the process, as /dev/console or not, as large as the caller's when served."""
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
    """The file mode mask; runc's and crun's 0022 when none is asked for."""
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
    return before, [*_set_limits(late, "process.rlimits, after all that they would hit"), execute]


def rlimit_steps(process: Process, profile: Profile | None) -> list[steps.Step]:
    """Resource limits, but for the soft ones of those that are set last. setrlimit(2)."""
    late = _late_limits(process, profile)
    early = tuple(limit for limit in process.rlimits if limit not in late)
    made = _set_limits(early, "process.rlimits")
    if late:
        hard = tuple((limit.type, RLIMITS[limit.type], limit.hard, limit.at) for limit in late)
        made.append(steps.RaiseRlimits(limits=hard, why="process.rlimits[].hard"))
    return made


def _late_limits(process: Process, profile: Profile | None) -> tuple[Rlimit, ...]:
    """
    The limits that are set right before execve, when it needs no right any more: to lower them.

    A filter comes earlier, and before the capabilities go if there is no noNewPrivileges. Where it
    may forbid prlimit64(2), no limit is late: hooks and execve then have to do with what is left.
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
    told = tuple(
        (limit.type, RLIMITS[limit.type], limit.soft, limit.hard, limit.at) for limit in limits
    )
    return [steps.SetRlimits(limits=told, why=why)]


def warnings(process: Process | None, facts: Facts) -> list[str]:
    """Capabilities that are asked for and cannot be had (config.md says: warn, do not fail)."""
    if process is None or process.capabilities is None:
        return []
    sets = process.capabilities
    told = {
        name: f"{sets.at}: {name} is no capability that pycontain knows"
        for name in sorted(unknown_capabilities(process))
    }
    # `runc spec` writes ambient ones that are not inheritable: not worth a word
    can = _granted(sets, facts) | {"ambient": facts.permitted & facts.bounding}
    for kind, granted in can.items():
        for name in sorted(getattr(sets, kind)):
            if name not in told and not granted >> CAPABILITIES[name] & 1:
                told[name] = f"{sets.at}: {name} {_why_not(name, kind, facts)}"
    return list(told.values())


def _why_not(name: str, kind: str, facts: Facts) -> str:
    """The reason why a known capability is missing in a set."""
    available = facts.permitted & facts.bounding
    if kind not in _NEEDED or not available >> CAPABILITIES[name] & 1:
        return "cannot be granted on this host"
    return f"is asked for as {kind}, but not as {_NEEDED[kind]}"


def _granted(sets: Capabilities, facts: Facts) -> dict[str, int]:
    """
    The sets that can be granted, as bit masks; nothing is inheritable unless asked for by name.

    Inheritable sets filled without being asked were CVE-2022-29162 and three more. What becomes
    inheritable must be in the bounding set, which by then holds what is kept: capset(2), EPERM.
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
