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
    from .seccomp import Profile
    from .walk import Turn


_FORK_BECAUSE = "processes of the container could look into its memory"


def build(
    new: Process, linux: Linux, rootfs: str, request: ExecRequest, facts: Facts
) -> tuple[Turn, ...]:
    """
    The turns of `exec`; user and capabilities are set as for the container's first process.

    The child is created in the container's cgroup and enters all its namespaces at once, except for
    a pid namespace: as its last step, it creates the program's process in that.
    """
    profile = process.filter_profile(linux)
    flags = 0
    for namespace in linux.namespaces:
        flags |= FLAGS[namespace.type]
    inside = bool(flags & c.CLONE_NEWPID)
    if flags & c.CLONE_NEWUSER:
        facts = facts.in_user_namespace()
    before, after = process.last_steps(new, profile, request.preserve_fds, inside=inside)
    return turns_of(
        [
            *(process.filter_steps(profile) if profile is not None else ()),
            *_monitor_steps(new, linux, request, profile),
            *_spawn_steps(new, request, facts.mapped),
            *_enter_steps(new, flags, rootfs, request, facts),
            *process.become_steps(
                new,
                linux,
                facts,
                profile,
                make_cwd=False,
                takes_files=request.takes_files,
                inside=inside,
            ),
            *(process.enter_steps(new, facts, profile) if inside else ()),
            *process.hand_over_steps(request.pid_file, request.pidfd_socket),
            *before,
            *_last_in_vm(after, linux, request),
        ]
    )


def _spawn_steps(new: Process, request: ExecRequest, mapped: bool) -> list[steps.Step]:
    """The parent's; mapped: the container has a user namespace."""
    planned = process.connect_steps(request.console_socket)
    if mapped:
        from .steps.idmap import ReadMappings

        planned.append(ReadMappings(why="linux.namespaces"))
        planned += process.give_streams_steps(new, request.takes_files)
    affinity, why = new.execCPUAffinity, "a child of the runtime"
    initial = cpus(affinity.initial) if affinity and affinity.initial else ()
    planned.append(
        steps.Spawn(flags=0, names=(), cpus=initial, fork_because=_FORK_BECAUSE, why=why)
    )
    if new.oomScoreAdj is not None:
        planned.append(steps.AdjustOomScore(score=new.oomScoreAdj, why="process.oomScoreAdj"))
    return planned + (process.outside_steps(new) if mapped else [])


def _enter_steps(
    new: Process, flags: int, rootfs: str, request: ExecRequest, facts: Facts
) -> list[steps.Step]:
    """The child's, from its creation until it is in the container; flags: CLONE_NEW*."""
    planned: list[steps.Step] = [
        steps.Guard(preserve_fds=request.preserve_fds, why="the container may hold hostile code"),
        steps.JoinKeyring(why="the caller's keys stay private"),
        *process.label_steps(new, facts),
        steps.JoinProcess(
            flags=flags,
            names=tuple(name for flag, name in FILES.items() if flags & flag),
            why="linux.namespaces",
        ),
    ]
    if new.execCPUAffinity is not None and new.execCPUAffinity.final:
        final, why = cpus(new.execCPUAffinity.final), "process.execCPUAffinity.final"
        planned.append(steps.SetAffinity(cpus=final, why=why))
    if not flags & c.CLONE_NEWNS:
        planned.append(steps.ChangeDirectoryRoot(path=rootfs, why="no mount namespace"))
    if new.terminal:  # /dev/console belongs to the container's first process
        inside = bool(flags & c.CLONE_NEWPID)
        planned.append(
            process.terminal_step(new, request.window, request.plain, console=False, inside=inside)
        )
    return planned


def _monitor_steps(
    new: Process, linux: Linux, request: ExecRequest, profile: Profile | None
) -> list[steps.Step]:
    """What the parent does for a virtual machine, if the container's programs run in such."""
    if not request.isolation:
        return []
    from .isolation import check, monitor_step

    check(new, linux, request, profile)
    return [monitor_step(request.isolation)]


def _last_in_vm(last: list[steps.Step], linux: Linux, request: ExecRequest) -> list[steps.Step]:
    if not request.isolation:
        return last
    from .isolation import last_step

    return [*last[:-1], last_step(last[-1], request.isolation, linux)]
