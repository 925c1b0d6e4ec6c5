"""Is the process of a configuration valid? Source: config.md, Process."""

from __future__ import annotations

from . import names
from .problem import absolute, between, each, known, problem, under

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .problem import Located, Problems
    from .records import CpuAffinity, Process, Rlimit, Scheduler

_REALTIME = ("SCHED_FIFO", "SCHED_RR")
# sched_setattr(2): deadline parameters are at least 1024 ns and below 2**63
_SHORTEST, _LONGEST = 1024, 2**63 - 1
_MOST_CPUS = 1 << 16  # more than any kernel supports


def problems(process: Process) -> Problems:
    """Everything that is wrong with the process."""
    yield from _program(process)
    yield from environment(process)
    if process.user is not None:
        yield from between(process.user, "umask", 0, 0o777)
    yield from _rlimits(process.rlimits)
    yield from between(process, "oomScoreAdj", -1000, 1000)  # proc_pid_oom_score_adj(5)
    if process.scheduler is not None:
        yield from _scheduler(process.scheduler)
    if process.ioPriority is not None:
        yield from between(process.ioPriority, "priority", 0, 7)  # ioprio_set(2)
    if process.execCPUAffinity is not None:
        yield from _affinity(process.execCPUAffinity)


def environment(record: Located) -> Problems:
    """The entries of `env` that are not NAME=value: environ(7)."""
    for at, entry in each(record, "env"):
        name, equals, _ = entry.partition("=")
        if not equals:
            yield problem(at, "has no =", "write it as NAME=value", entry)
        elif not name:
            yield problem(at, "has no name before the =", "write it as NAME=value", entry)


def cpu_list(record: Located, key: str) -> Problems:
    """The problem of a list of CPUs or nodes that the kernel could not parse."""
    text = getattr(record, key)
    if text and not set(text) <= set("0123456789,-:/ "):
        yield problem(under(record, key), "is not a list of numbers", "write it as 0-3,7", text)


def _program(process: Process) -> Problems:
    if not process.args:
        yield problem(under(process, "args"), "names no program", 'set it, as in ["sh"]')
    yield from absolute(under(process, "cwd"), process.cwd)


def _rlimits(rlimits: tuple[Rlimit, ...]) -> Problems:
    first: dict[str, str] = {}
    for rlimit in rlimits:
        at = under(rlimit, "type")
        yield from known(at, rlimit.type, names.RLIMITS)
        if rlimit.type in first:
            yield problem(at, f"is already set by {first[rlimit.type]}", "keep one", rlimit.type)
        first.setdefault(rlimit.type, rlimit.at)
        if rlimit.soft > rlimit.hard:
            why = f"is above the hard limit, {rlimit.hard}"
            yield problem(under(rlimit, "soft"), why, "lower it, or raise hard", rlimit.soft)


def _scheduler(scheduler: Scheduler) -> Problems:
    if scheduler.policy == "SCHED_ISO":
        why = "is reserved, but not implemented by Linux"
        yield problem(under(scheduler, "policy"), why, "use SCHED_BATCH", scheduler.policy)
    yield from between(scheduler, "nice", -20, 19)
    yield from _priority(scheduler)
    for at, flag in each(scheduler, "flags"):
        yield from known(at, flag, names.SCHEDULER_FLAGS)
    if scheduler.policy == "SCHED_DEADLINE":
        yield from _deadline(scheduler)
    else:
        yield from _no_deadline(scheduler)


def _priority(scheduler: Scheduler) -> Problems:
    if scheduler.policy in _REALTIME:
        yield from between(scheduler, "priority", 1, 99)  # sched(7)
    elif scheduler.priority:
        why = f"has no meaning for {scheduler.policy}"
        remedy = f"remove it, or use {' or '.join(_REALTIME)}"
        yield problem(under(scheduler, "priority"), why, remedy, scheduler.priority)


def _deadline(scheduler: Scheduler) -> Problems:
    yield from between(scheduler, "runtime", _SHORTEST, _LONGEST)
    yield from between(scheduler, "deadline", _SHORTEST, _LONGEST)
    if scheduler.runtime > scheduler.deadline:
        why = f"is longer than the deadline, {scheduler.deadline}"
        remedy = "keep runtime <= deadline <= period"
        yield problem(under(scheduler, "runtime"), why, remedy, scheduler.runtime)
    if scheduler.period:  # 0 stands for the deadline
        yield from between(scheduler, "period", scheduler.deadline, _LONGEST)


def _no_deadline(scheduler: Scheduler) -> Problems:
    for key in ("runtime", "deadline", "period"):
        if value := getattr(scheduler, key):
            why = f"has no meaning for {scheduler.policy}"
            yield problem(under(scheduler, key), why, "remove it, or use SCHED_DEADLINE", value)


def cpus(text: str) -> tuple[int, ...]:
    """The numbers of the CPUs in a list such as 0-3,7. Raises ValueError for any other text."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        begin = int(first)
        end = int(last) if dash else begin
        if not 0 <= begin <= end < _MOST_CPUS:
            raise ValueError(f"{part} is not a range of CPUs")
        numbers.update(range(begin, end + 1))
    return tuple(sorted(numbers))


def _affinity(affinity: CpuAffinity) -> Problems:
    for key in ("initial", "final"):
        if text := getattr(affinity, key):
            try:
                cpus(text)
            except ValueError:
                why = f"is not a list of CPUs below {_MOST_CPUS}"
                yield problem(under(affinity, key), why, "write it as 0-3,7", text)
