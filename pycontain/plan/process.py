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
# These limit what this process itself still needs: memory for execve, and files for its hooks.
_LATE_LIMITS = ("RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_FSIZE")
# This one would count a process outside of the pid namespace as well as that inside.
_LATE_INSIDE = (*_LATE_LIMITS, "RLIMIT_NPROC")
# What a filter must let pass if it is loaded outside of the pid namespace: the calls that create
# the process inside, and that process's first ones.
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
    """What the parent prepares for the filter."""
    made: list[steps.Step] = [steps.CompileSeccomp(profile=profile, why="linux.seccomp")]
    if profile.listener:
        from .steps.notify import ConnectListener

        made.append(ConnectListener(path=profile.listener, why="linux.seccomp.listenerPath"))
    return made


def _load_steps(profile: Profile) -> list[steps.Step]:
    """Load the filter; its listener is sent before the child goes on."""
    made: list[steps.Step] = [steps.LoadSeccomp(flags=profile.flags, why="linux.seccomp")]
    if profile.listener:
        from .steps.notify import CloseListener

        made += [_send_step(profile), CloseListener(why="linux.seccomp.listenerPath")]
    return made


def _send_step(profile: Profile) -> steps.Step:
    from .steps.notify import SendListener

    return SendListener(metadata=profile.metadata, why="linux.seccomp.listenerPath")


def label_steps(process: Process, facts: Facts) -> list[steps.Step]:
    """What AppArmor and SELinux are told, while the host's /proc is there to tell them."""
    if not (process.apparmorProfile or process.selinuxLabel):
        return []
    from .labels import process_steps

    return process_steps(process, facts)


def _scheduler_steps(process: Process) -> list[steps.SetScheduler]:
    wanted = process.scheduler
    if wanted is None:
        return []
    flags = 0
    for name in wanted.flags:
        flags |= SCHEDULER_FLAGS[name]
    return [
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
    ]


def _scheduling_outside(process: Process) -> list[steps.SetSchedulerOutside]:
    return [
        steps.SetSchedulerOutside(wanted=step, why=step.why) for step in _scheduler_steps(process)
    ]


def _inherited_scheduling_steps(process: Process, linux: Linux, mapped: bool) -> list[steps.Step]:
    """I/O priority, execution domain and memory policy."""
    made: list[steps.Step] = []
    if (io := process.ioPriority) is not None and not mapped:
        priority = IO_CLASSES[io.class_] << _IO_CLASS_SHIFT | io.priority
        made.append(steps.SetIoPriority(priority=priority, why="process.ioPriority"))
    if linux.personality is not None:
        persona = PERSONALITIES[linux.personality.domain]
        made.append(steps.SetPersonality(persona=persona, why="linux.personality"))
    if linux.memoryPolicy is not None:
        from .memory import policy_step

        made.append(policy_step(linux.memoryPolicy))
    return made


def identity_steps(
    process: Process, facts: Facts, profile: Profile | None, takes_files: bool, inside: bool
) -> list[steps.Step]:
    """
    From root to the container's user, in the only order that works.

    Loading a system call filter needs CAP_SYS_ADMIN or no_new_privs (seccomp(2)): without the
    latter it must happen before the capabilities are dropped, otherwise it is done last.
    A process without `capabilities` gets none: it must not inherit the caller's.
    """
    made: list[steps.Step] = []
    privileged = _loads_privileged(process, profile, inside)
    if profile is not None and not process.noNewPrivileges and not privileged:
        made += _load_steps(profile)
    sets = process.capabilities or Capabilities(at="process.capabilities")
    made.append(
        steps.BoundCapabilities(
            keep=_granted(sets, facts)["bounding"],
            last=facts.last_capability,
            why=f"{sets.at}.bounding",
        )
    )
    user = process.user
    made.append(
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
    made.append(final)
    if process.noNewPrivileges:
        made.append(steps.NoNewPrivileges(why="process.noNewPrivileges"))
    return made


def _groups(wanted: tuple[int, ...], facts: Facts) -> tuple[int, ...] | None:
    """The supplementary groups. Raises SpecError where none can be set."""
    if facts.sets_groups:
        return wanted
    if wanted:
        raise SpecError(
            "cannot be set in a user namespace that maps one id alone",
            at="process.user.additionalGids",
            value=", ".join(map(str, wanted)),
            remedy="remove it, or give the user subordinate ids (subgid(5))",
        )
    return None


def _capabilities(process: Process, facts: Facts) -> steps.SetCapabilities:
    """The step that sets what a process may have in the end."""
    sets = process.capabilities or Capabilities(at="process.capabilities")
    granted = _granted(sets, facts)
    del granted["bounding"]
    return steps.SetCapabilities(**granted, why=sets.at)


def _loads_privileged(process: Process, profile: Profile | None, inside: bool) -> bool:
    """Whether a filter must be loaded, with CAP_SYS_ADMIN, inside of the pid namespace."""
    if profile is None or process.noNewPrivileges or not inside:
        return False
    if profile.listener:
        return True  # of the process that the parent can find
    calls = (*_CALLS_TO_ENTER, *(("ioctl",) if process.terminal else ()))
    return not (
        all(_lets_pass(profile, call) for call in calls) and _lets_pass(profile, "clone", _ENTERING)
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
    mapped: bool,
) -> list[steps.Step]:
    """
    From the runtime's process to the container's, ready for execve.

    read_only runs once the working directory exists, while mounting is still permitted.
    takes_files: files among its streams are given to the user, as pipes always are.
    inside: `enter_steps` follow, since other processes are in its pid namespace.
    mapped: it is in a user namespace, where CPU scheduling may only be restrained.
    """
    made: list[steps.Step] = [
        steps.StartSession(umask=umask(process), why="process.user.umask"),
        *(() if inside else _scheduling_outside(process) if mapped else _scheduler_steps(process)),
        *_inherited_scheduling_steps(process, linux, mapped),
        steps.EnterDirectory(path=process.cwd, make=make_cwd, why="process.cwd"),
        *(read_only or ()),
        *rlimit_steps(process, profile, inside),
        *identity_steps(process, facts, profile, takes_files, inside),
    ]
    if process.args:
        made.append(
            steps.FindProgram(
                args=process.args, env=process.env, why="a missing program fails early"
            )
        )
    if profile is not None and profile.listener and process.noNewPrivileges and not inside:
        made += _load_steps(profile)  # not after `start`: this parent sends the listener
    return made


def enter_steps(process: Process, facts: Facts, profile: Profile | None) -> list[steps.Step]:
    """
    From a process outside of a pid namespace that others are in to the program's, inside.

    They can see that one, and inspect it if they may (ptrace(2)), from its first moment.
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
    """A terminal for the process, of the size of the caller's if it is served."""
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
    """What is left after `start`: (before the startContainer hooks, after them)."""
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
    made = _set_limits(early, "process.rlimits")
    if late:
        hard = tuple((limit.type, RLIMITS[limit.type], limit.hard, limit.at) for limit in late)
        made.append(steps.RaiseRlimits(limits=hard, why="process.rlimits[].hard"))
    return made


def outside_steps(process: Process) -> list[steps.Step]:
    """What only the parent may do for a child in a user namespace: hard limits, I/O priority."""
    from .steps import idmap

    made: list[steps.Step] = []
    if process.rlimits:
        limits = tuple(
            (limit.type, RLIMITS[limit.type], limit.hard, limit.at) for limit in process.rlimits
        )
        made.append(idmap.RaiseRlimitsOutside(limits=limits, why="process.rlimits[].hard"))
    if (io := process.ioPriority) is not None:
        priority = IO_CLASSES[io.class_] << _IO_CLASS_SHIFT | io.priority
        made.append(idmap.SetIoPriorityOutside(priority=priority, why="process.ioPriority"))
    return made


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
    if profile is not None and not _lets_pass(profile, "prlimit64"):
        return ()
    names = _LATE_INSIDE if inside else _LATE_LIMITS
    return tuple(limit for limit in process.rlimits if limit.type in names)


def _lets_pass(profile: Profile, call: str, first: int | None = None) -> bool:
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
    found = {
        name: f"{sets.at}: {name} is not a capability that pycontain knows"
        for name in sorted(unknown_capabilities(process))
    }
    can = _granted(sets, facts)
    ambient = can["ambient"]
    can["ambient"] = facts.permitted & facts.bounding
    for kind, granted in can.items():
        for name in sorted(getattr(sets, kind)):
            if name not in found and not granted >> CAPABILITIES[name] & 1:
                found[name] = f"{sets.at}: {name} {_why_not(name, kind, facts)}"
    lower = [
        name
        for name in sorted(sets.ambient)
        if name not in found and not ambient >> CAPABILITIES[name] & 1
    ]
    if lower:  # one line: `runc spec` writes three of them
        why = "cannot be raised: not permitted and inheritable, too (capabilities(7))"
        found[""] = f"{sets.at}.ambient: {', '.join(lower)} {why}"
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


def connect_steps(console_socket: str) -> list[steps.Step]:
    """The connection to the receiver of the terminal's master, if it is not served here."""
    if not console_socket:
        return []
    return [steps.ConnectConsole(path=console_socket, why="--console-socket")]


def hand_over_steps(pid_file: str, pidfd_socket: str) -> list[steps.Step]:
    """How a supervisor is notified of the process."""
    made: list[steps.Step] = []
    if pid_file:
        made.append(steps.WritePidFile(path=pid_file, why="--pid-file"))
    if pidfd_socket:
        made.append(steps.SendPidfd(path=pidfd_socket, why="--pidfd-socket"))
    return made
