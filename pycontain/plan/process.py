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
)
from ..spec.records import Capabilities
from . import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..spec.records import Linux, Process
    from .facts import Facts
    from .seccomp import Profile

_IO_CLASS_SHIFT = 13
_DEFAULT_UMASK = 0o022


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


def identity_steps(process: Process, facts: Facts, profile: Profile | None) -> list[steps.Step]:
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
    made.append(
        steps.BoundCapabilities(
            keep=_mask(sets.bounding, facts.bounding),
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
            why="process.user",
        )
    )
    made.append(_capabilities(sets, facts))
    if process.noNewPrivileges:
        made.append(steps.NoNewPrivileges(why="process.noNewPrivileges"))
    return made


def become_steps(
    process: Process,
    linux: Linux,
    facts: Facts,
    profile: Profile | None,
    freeze: list[steps.Step] | None = None,
    make_cwd: bool = True,
) -> list[steps.Step]:
    """
    From the runtime's process to the container's, ready for execve.

    freeze comes once the working directory is made, while there is still the right to mount.
    """
    made: list[steps.Step] = [
        steps.StartSession(umask=umask(process), why="process.user.umask"),
        *scheduling_steps(process, linux),
        steps.EnterDirectory(path=process.cwd, make=make_cwd, why="process.cwd"),
        *(freeze or ()),
        *rlimit_steps(process),
        *identity_steps(process, facts, profile),
    ]
    if process.args:
        made.append(
            steps.FindProgram(
                args=process.args, env=process.env, why="a missing program fails early"
            )
        )
    return made


def terminal_step(
    process: Process, window: tuple[int, int], *, console: bool
) -> steps.OpenTerminal:
    """A terminal for the process, as /dev/console or not, as large as the caller's when served."""
    size = process.consoleSize
    rows, columns = window if any(window) or not size else (size.height, size.width)
    return steps.OpenTerminal(
        rows=rows,
        columns=columns,
        uid=process.user.uid if process.user else 0,
        mount=console,
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
    return before, [execute]


def rlimit_steps(process: Process) -> list[steps.Step]:
    """Resource limits. setrlimit(2)."""
    if not process.rlimits:
        return []
    limits = tuple(
        (wanted.type, RLIMITS[wanted.type], wanted.soft, wanted.hard, wanted.at)
        for wanted in process.rlimits
    )
    return [steps.SetRlimits(limits=limits, why="process.rlimits")]


def warnings(process: Process | None, facts: Facts) -> list[str]:
    """Capabilities that are asked for and cannot be had (config.md says: warn, do not fail)."""
    if process is None or process.capabilities is None:
        return []
    sets = process.capabilities
    asked = {name for names in (sets.bounding, sets.permitted) for name in names}
    unknown = sorted(unknown_capabilities(process))
    denied = sorted(
        name for name in asked - set(unknown) if not facts.bounding >> CAPABILITIES[name] & 1
    )
    lines = [f"{sets.at}: {name} is no capability that pycontain knows" for name in unknown]
    return lines + [f"{sets.at}: {name} cannot be granted on this host" for name in denied]


def _capabilities(sets: Capabilities, facts: Facts) -> steps.SetCapabilities:
    """
    The sets that can be granted; nothing is inheritable unless it is asked for by name.

    Inheritable sets filled without being asked were CVE-2022-29162 and three more.
    """
    permitted = _mask(sets.permitted, facts.permitted)
    inheritable = _mask(sets.inheritable, facts.permitted)
    return steps.SetCapabilities(
        effective=_mask(sets.effective, permitted),
        permitted=permitted,
        inheritable=inheritable,
        ambient=_mask(sets.ambient, permitted & inheritable),
        why=sets.at,
    )


def _mask(names: tuple[str, ...], available: int) -> int:
    mask = 0
    for name in names:
        mask |= 1 << CAPABILITIES.get(name, 63)
    return mask & available & ~(1 << 63)
