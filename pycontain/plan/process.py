"""
The process of config.json to steps: what create, run and exec have in common.

config.md, Process; capabilities(7); sched_setattr(2); ioprio_set(2); personality(2).
"""

from __future__ import annotations

from ..errors import SpecError
from ..kernel import const as c
from ..spec.check import unknown_capabilities
from ..spec.names import (
    CAPABILITIES,
    IO_CLASSES,
    PERSONALITIES,
    RLIMITS,
    SCHEDULER_FLAGS,
    SCHEDULER_POLICIES,
    SECCOMP_ACTIONS,
    SECCOMP_OPERATORS,
)
from ..spec.records import Capabilities
from . import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..spec.records import Linux, Process, Rlimit
    from .facts import Facts
    from .seccomp import Comparison, Profile

_IO_CLASS_SHIFT = 13
_DEFAULT_UMASK = 0o022
# These limit what this process still needs: memory for execve, and files that hooks write.
_LATE_LIMITS = ("RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_FSIZE")
# This one would count the process outside of the pid namespace besides the one inside.
_LATE_INSIDE = (*_LATE_LIMITS, "RLIMIT_NPROC")
# What a filter must allow if it is loaded outside of the pid namespace: the calls that create the
# process inside, and that process's first ones.
_ENTERING = c.CLONE_PARENT | c.CLONE_PARENT_SETTID
_CALLS_TO_ENTER = ("madvise", "close_range", "setsid")
_ADMIN = 1 << CAPABILITIES["CAP_SYS_ADMIN"]
_NEEDED = {"inheritable": "bounding", "effective": "permitted"}


def filter_profile(linux: Linux) -> Profile | None:
    """The system call filter, if one is configured; only then are its tables loaded."""
    if linux.seccomp is None:
        return None
    from .seccomp import profile

    return profile(linux.seccomp)


def filter_steps(profile: Profile) -> list[steps.Step]:
    """The parent compiles the filter, and connects to its agent if it has one."""
    planned: list[steps.Step] = [steps.CompileSeccomp(profile=profile, why="linux.seccomp")]
    if profile.listener:
        from .steps.notify import ConnectListener

        planned.append(ConnectListener(path=profile.listener, why="linux.seccomp.listenerPath"))
    return planned


def _load_steps(profile: Profile) -> list[steps.Step]:
    """Load the filter; its listener is sent before the child continues."""
    planned: list[steps.Step] = [steps.LoadSeccomp(flags=profile.flags, why="linux.seccomp")]
    if profile.listener:
        from .steps.notify import CloseListener

        planned += [_send_step(profile), CloseListener(why="linux.seccomp.listenerPath")]
    return planned


def _send_step(profile: Profile) -> steps.Step:
    from .steps.notify import SendListener

    return SendListener(metadata=profile.metadata, why="linux.seccomp.listenerPath")


def label_steps(process: Process, facts: Facts) -> list[steps.Step]:
    """The labels for AppArmor and SELinux, which are set through /proc, before it is masked."""
    if not (process.apparmorProfile or process.selinuxLabel):
        return []
    from .labels import process_steps

    return process_steps(process, facts)


def _scheduler_steps(process: Process) -> list[steps.SetScheduler]:
    scheduler = process.scheduler
    if scheduler is None:
        return []
    flags = 0
    for name in scheduler.flags:
        flags |= SCHEDULER_FLAGS[name]
    return [
        steps.SetScheduler(
            why="process.scheduler",
            policy=SCHEDULER_POLICIES[scheduler.policy],
            flags=flags,
            nice=scheduler.nice,
            priority=scheduler.priority,
            runtime=scheduler.runtime,
            deadline=scheduler.deadline,
            period=scheduler.period,
        )
    ]


def _scheduling_outside(process: Process) -> list[steps.SetSchedulerOutside]:
    return [
        steps.SetSchedulerOutside(wanted=step, why=step.why) for step in _scheduler_steps(process)
    ]


def _inherited_scheduling_steps(process: Process, linux: Linux, mapped: bool) -> list[steps.Step]:
    """I/O priority, execution domain and memory policy."""
    planned: list[steps.Step] = []
    if (io := process.ioPriority) is not None and not mapped:
        priority = IO_CLASSES[io.class_] << _IO_CLASS_SHIFT | io.priority
        planned.append(steps.SetIoPriority(priority=priority, why="process.ioPriority"))
    if linux.personality is not None:
        persona = PERSONALITIES[linux.personality.domain]
        planned.append(steps.SetPersonality(persona=persona, why="linux.personality"))
    if linux.memoryPolicy is not None:
        from .memory import policy_step

        planned.append(policy_step(linux.memoryPolicy))
    return planned


def identity_steps(
    process: Process, facts: Facts, profile: Profile | None, takes_files: bool, inside: bool
) -> list[steps.Step]:
    """
    From root to the container's user, in the only order that works.

    Loading a system call filter needs CAP_SYS_ADMIN or no_new_privs (seccomp(2)): without the
    latter it must happen before the capabilities are dropped, otherwise it is done last.
    A process without `capabilities` gets none: it must not inherit the caller's.
    """
    planned: list[steps.Step] = []
    privileged = _loads_privileged(process, profile, inside)
    if profile is not None and not process.noNewPrivileges and not privileged:
        planned += _load_steps(profile)
    sets = process.capabilities or Capabilities(at="process.capabilities")
    planned.append(
        steps.BoundCapabilities(
            keep=_granted(sets, facts)["bounding"],
            last=facts.last_capability,
            why=f"{sets.at}.bounding",
        )
    )
    user = process.user
    planned.append(
        steps.TakeUser(
            uid=user.uid if user else 0,
            gid=user.gid if user else 0,
            groups=_groups(tuple(dict.fromkeys(user.additionalGids)) if user else (), facts),
            takes_files=takes_files,
            why="process.user",
        )
    )
    final = _capabilities(process, facts)
    if privileged:
        more = _ADMIN & facts.permitted
        final = final.replace(effective=final.effective | more, permitted=final.permitted | more)
    planned.append(final)
    if process.noNewPrivileges:
        planned.append(steps.NoNewPrivileges(why="process.noNewPrivileges"))
    return planned


def _groups(gids: tuple[int, ...], facts: Facts) -> tuple[int, ...] | None:
    """The supplementary groups. Raises SpecError where none can be set."""
    if facts.sets_groups:
        return gids
    if gids:
        raise SpecError(
            "cannot be set in a user namespace that maps one id alone",
            at="process.user.additionalGids",
            value=", ".join(map(str, gids)),
            remedy="remove it, or give the user subordinate ids (subgid(5))",
        )
    return None


def _capabilities(process: Process, facts: Facts) -> steps.SetCapabilities:
    """The step that sets the capabilities that the program has."""
    sets = process.capabilities or Capabilities(at="process.capabilities")
    granted = _granted(sets, facts)
    del granted["bounding"]
    return steps.SetCapabilities(**granted, why=sets.at)


def _loads_privileged(process: Process, profile: Profile | None, inside: bool) -> bool:
    """Whether a filter must be loaded, with CAP_SYS_ADMIN, inside of the pid namespace."""
    if profile is None or process.noNewPrivileges or not inside:
        return False
    if profile.listener:
        return True  # the parent takes the listener from that process
    calls = (*_CALLS_TO_ENTER, *(("ioctl",) if process.terminal else ()))
    return not (
        all(allows(profile, call) for call in calls) and allows(profile, "clone", _ENTERING)
    )


def become_steps(
    process: Process,
    linux: Linux,
    facts: Facts,
    profile: Profile | None,
    *,
    read_only: list[steps.Step] | None = None,
    make_cwd: bool,
    takes_files: bool,
    inside: bool,
) -> list[steps.Step]:
    """
    From the runtime's process to the container's, ready for execve.

    read_only    steps for once the working directory exists, while mounting is still permitted
    make_cwd     create the working directory if it is missing
    takes_files  give files among the standard streams to the user, as pipes always are
    inside       `enter_steps` follow, since other processes are in the pid namespace
    """
    # in a user namespace, a process may only lower its own priority
    scheduling = _scheduling_outside if facts.mapped else _scheduler_steps
    planned: list[steps.Step] = [
        steps.StartSession(umask=umask(process), why="process.user.umask"),
        *(() if inside else scheduling(process)),
        *_inherited_scheduling_steps(process, linux, facts.mapped),
        steps.EnterDirectory(path=process.cwd, make=make_cwd, why="process.cwd"),
        *(read_only or ()),
        *rlimit_steps(process, profile, inside),
        *identity_steps(process, facts, profile, takes_files, inside),
    ]
    if process.args:
        planned.append(
            steps.FindProgram(
                args=process.args, env=process.env, why="a missing program fails early"
            )
        )
    if profile is not None and profile.listener and process.noNewPrivileges and not inside:
        planned += _load_steps(profile)  # not after `start`: this parent sends the listener
    return planned


def enter_steps(process: Process, facts: Facts, profile: Profile | None) -> list[steps.Step]:
    """
    From the child, outside of a joined pid namespace, to the program's process inside.

    Other processes inside see that process, and may inspect it, from its first moment: ptrace(2).
    """
    filter_, capabilities = None, None
    if profile is not None:
        privileged = _loads_privileged(process, profile, inside=True)
        if privileged or profile.listener:
            filter_ = steps.LoadSeccomp(flags=profile.flags, why="linux.seccomp")
        if privileged:
            capabilities = _capabilities(process, facts)
    enter = steps.EnterPids(
        terminal=process.terminal,
        filter_=filter_,
        capabilities=capabilities,
        why="other processes are in it",
    )
    return [
        enter,
        steps.TakeOver(why="the pid must come from the kernel"),
        *([_send_step(profile)] if profile is not None and profile.listener else ()),
        *_scheduling_outside(process),
    ]


def terminal_step(
    process: Process, window: tuple[int, int], plain: bool, *, console: bool, inside: bool
) -> steps.OpenTerminal:
    """A terminal for the process, as large as the caller's (`window`) or as process.consoleSize."""
    size = process.consoleSize
    rows, columns = window if any(window) or not size else (size.height, size.width)
    return steps.OpenTerminal(
        rows=rows,
        columns=columns,
        uid=process.user.uid if process.user else 0,
        mount=console,
        plain=plain,
        control=not inside,
        why="process.terminal",
    )


def umask(process: Process) -> int:
    """The file mode mask; 0022 by default, as in runc and crun."""
    if process.user is None or process.user.umask is None:
        return _DEFAULT_UMASK
    return process.user.umask


def last_steps(
    process: Process,
    profile: Profile | None,
    preserve_fds: int,
    listen_fds: int = 0,
    listen_names: str = "",
    *,
    inside: bool,
) -> tuple[list[steps.Step], list[steps.Step]]:
    """The steps after `start`: (before the startContainer hooks, after them)."""
    before: list[steps.Step] = []
    if profile is not None and process.noNewPrivileges and not profile.listener:
        before.append(steps.LoadSeccomp(flags=profile.flags, why="linux.seccomp"))
    execute = steps.Execute(
        args=process.args,
        env=process.env,
        preserve_fds=preserve_fds,
        listen_fds=listen_fds,
        listen_names=listen_names,
        why="process.args",
    )
    late = _late_limits(process, profile, inside)
    return before, [*_set_limits(late, "process.rlimits, after steps they could break"), execute]


def rlimit_steps(process: Process, profile: Profile | None, inside: bool) -> list[steps.Step]:
    """Resource limits, except the soft ones of those that are set last. setrlimit(2)."""
    late = _late_limits(process, profile, inside)
    early = tuple(limit for limit in process.rlimits if limit not in late)
    planned = _set_limits(early, "process.rlimits")
    if late:
        hard = tuple((limit.type, RLIMITS[limit.type], limit.hard, limit.at) for limit in late)
        planned.append(steps.RaiseRlimits(limits=hard, why="process.rlimits[].hard"))
    return planned


def outside_steps(process: Process) -> list[steps.Step]:
    """Hard limits and I/O priority, which a child in a user namespace may not raise itself."""
    from .steps import idmap

    planned: list[steps.Step] = []
    if process.rlimits:
        limits = tuple(
            (limit.type, RLIMITS[limit.type], limit.hard, limit.at) for limit in process.rlimits
        )
        planned.append(idmap.RaiseRlimitsOutside(limits=limits, why="process.rlimits[].hard"))
    if (io := process.ioPriority) is not None:
        priority = IO_CLASSES[io.class_] << _IO_CLASS_SHIFT | io.priority
        planned.append(idmap.SetIoPriorityOutside(priority=priority, why="process.ioPriority"))
    return planned


def give_streams_steps(process: Process, takes_files: bool) -> list[steps.Step]:
    """The parent gives the standard streams to the user of a user namespace."""
    from .steps import idmap

    uid = process.user.uid if process.user else 0
    return [idmap.GiveStreams(uid=uid, takes_files=takes_files, why="process.user")]


def _late_limits(process: Process, profile: Profile | None, inside: bool) -> tuple[Rlimit, ...]:
    """
    The limits that are set right before execve, where lowering them needs no capability.

    A filter is loaded earlier; without noNewPrivileges, before the capabilities are dropped. Where
    it may forbid prlimit64(2), no limit is set late: hooks and execve then run within the limits.
    """
    if profile is not None and not allows(profile, "prlimit64"):
        return ()
    names = _LATE_INSIDE if inside else _LATE_LIMITS
    return tuple(limit for limit in process.rlimits if limit.type in names)


def allows(profile: Profile, call: str, first: int | None = None) -> bool:
    """
    Whether a filter certainly allows a system call.

    first  its first argument, None for any; the others can have any value
    """
    passing = (SECCOMP_ACTIONS["SCMP_ACT_ALLOW"], SECCOMP_ACTIONS["SCMP_ACT_LOG"])
    rules = [(action, when) for action, names, when in profile.rules if call in names]
    if any(_may_hold(when, first) for action, when in rules if action not in passing):
        return False
    return profile.default in passing or any(_must_hold(when, first) for _, when in rules)


def _may_hold(when: tuple[Comparison, ...], first: int | None) -> bool:
    return all(each[0] != 0 or first is None or _holds(each, first) for each in when)


def _must_hold(when: tuple[Comparison, ...], first: int | None) -> bool:
    return all(each[0] == 0 and first is not None and _holds(each, first) for each in when)


def _holds(comparison: Comparison, value: int) -> bool:
    """Whether a comparison of seccomp_rule_add(3) holds for this value of its argument."""
    _, operator, datum, second = comparison
    results = {
        "SCMP_CMP_NE": value != datum,
        "SCMP_CMP_LT": value < datum,
        "SCMP_CMP_LE": value <= datum,
        "SCMP_CMP_EQ": value == datum,
        "SCMP_CMP_GE": value >= datum,
        "SCMP_CMP_GT": value > datum,
        "SCMP_CMP_MASKED_EQ": value & datum == second,
    }
    return any(result for name, result in results.items() if SECCOMP_OPERATORS[name] == operator)


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
    missing = {
        name: f"{sets.at}: {name} is not a capability that pycontain knows"
        for name in sorted(unknown_capabilities(process))
    }
    granted_sets = _granted(sets, facts)
    ambient = granted_sets["ambient"]
    granted_sets["ambient"] = facts.permitted & facts.bounding
    for kind, granted in granted_sets.items():
        for name in sorted(getattr(sets, kind)):
            if name not in missing and not granted >> CAPABILITIES[name] & 1:
                missing[name] = f"{sets.at}: {name} {_why_not(name, kind, facts)}"
    lower = [
        name
        for name in sorted(sets.ambient)
        if name not in missing and not ambient >> CAPABILITIES[name] & 1
    ]
    if lower:  # one line: `runc spec` writes three of them
        why = "cannot be raised: not permitted and inheritable, too (capabilities(7))"
        missing[""] = f"{sets.at}.ambient: {', '.join(lower)} {why}"
    return list(missing.values())


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


def connect_steps(console_socket: str) -> list[steps.Step]:
    """Connect to the socket that receives the terminal's master, if there is one."""
    if not console_socket:
        return []
    return [steps.ConnectConsole(path=console_socket, why="--console-socket")]


def hand_over_steps(pid_file: str, pidfd_socket: str) -> list[steps.Step]:
    """Pass the process to a supervisor, as a pid or a pidfd."""
    planned: list[steps.Step] = []
    if pid_file:
        planned.append(steps.WritePidFile(path=pid_file, why="--pid-file"))
    if pidfd_socket:
        planned.append(steps.SendPidfd(path=pidfd_socket, why="--pidfd-socket"))
    return planned
