"""From a process for `exec` to the steps that start it in a running container."""

from __future__ import annotations

from ..kernel import const as c
from ..spec.process_rules import cpus
from . import process, steps
from .namespaces import FILES, FLAGS
from .walk import turns_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..spec.records import Linux, Process
    from .facts import Facts
    from .request import ExecRequest
    from .walk import Turn


_FORK_BECAUSE = "processes of the container could look into its memory"


def build(
    wanted: Process, linux: Linux, rootfs: str, request: ExecRequest, facts: Facts
) -> tuple[Turn, ...]:
    """
    The turns of `exec`; user and capabilities are set as for the container's first process.

    The child is created in the container's cgroup and enters all its namespaces at once, but a pid
    namespace: once it is all that the program will be, it creates the process inside. A terminal
    does not become /dev/console: that belongs to the first process, if it has a terminal.
    """
    profile = process.filter_profile(linux)
    flags = 0
    for namespace in linux.namespaces:
        flags |= FLAGS[namespace.type]
    inside, mapped = bool(flags & c.CLONE_NEWPID), bool(flags & c.CLONE_NEWUSER)
    if mapped:
        facts = facts.in_user_namespace()
    affinity = wanted.execCPUAffinity
    made: list[steps.Step] = []
    if profile is not None:
        made += process.filter_steps(profile)
    made += [
        *_spawn_steps(wanted, request, mapped),
        steps.Guard(preserve_fds=request.preserve_fds, why="the container may hold hostile code"),
        steps.JoinKeyring(why="the caller's keys stay private"),
        *process.label_steps(wanted, facts),
        steps.JoinProcess(
            flags=flags,
            names=tuple(name for flag, name in FILES.items() if flags & flag),
            why="linux.namespaces",
        ),
    ]
    if affinity is not None and affinity.final:
        why = "process.execCPUAffinity.final"
        made.append(steps.SetAffinity(cpus=cpus(affinity.final), why=why))
    if not flags & c.CLONE_NEWNS:
        made.append(steps.ChangeDirectoryRoot(path=rootfs, why="no mount namespace"))
    if wanted.terminal:
        made.append(
            process.terminal_step(
                wanted, request.window, request.plain, console=False, inside=inside
            )
        )
    made += process.become_steps(
        wanted,
        linux,
        facts,
        profile,
        make_cwd=False,
        takes_files=request.takes_files,
        inside=inside,
        mapped=mapped,
    )
    if inside:
        made += process.enter_steps(wanted, facts, profile)
    made += process.hand_over_steps(request.pid_file, request.pidfd_socket)
    before, after = process.last_steps(wanted, profile, request.preserve_fds, inside=inside)
    return turns_of([*made, *before, *after])


def _spawn_steps(wanted: Process, request: ExecRequest, mapped: bool) -> list[steps.Step]:
    """What the parent does; mapped: the container has a user namespace."""
    made = process.connect_steps(request.console_socket)
    if mapped:
        from .steps.idmap import ReadMappings

        made.append(ReadMappings(why="linux.namespaces"))
        made += process.give_streams_steps(wanted, request.takes_files)
    affinity, why = wanted.execCPUAffinity, "a child of the runtime"
    initial = cpus(affinity.initial) if affinity and affinity.initial else ()
    made.append(steps.Spawn(flags=0, names=(), cpus=initial, fork_because=_FORK_BECAUSE, why=why))
    if wanted.oomScoreAdj is not None:
        made.append(steps.AdjustOomScore(score=wanted.oomScoreAdj, why="process.oomScoreAdj"))
    return made + (process.outside_steps(wanted) if mapped else [])
