"""From a process for `exec` to the steps that start it in a container that runs."""

from __future__ import annotations

from ..kernel import const as c
from ..record import Record
from . import process, steps
from .namespaces import FILES, FLAGS
from .plan import connect_steps, hand_over_steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..spec.records import Linux, Process
    from .facts import Facts


class JoinRequest(Record):
    """What the command line adds to a process."""

    console_socket: str = ""
    window: tuple[int, int] = (0, 0)
    pid_file: str = ""
    pidfd_socket: str = ""
    preserve_fds: int = 0


def build(
    wanted: Process, linux: Linux, rootfs: str, request: JoinRequest, facts: Facts
) -> tuple[steps.Step, ...]:
    """
    The steps of `exec`: the rules of identity are those of the container's first process.

    The child is born in the container's cgroup, enters all its namespaces at once, and becomes the
    program. Its terminal is no /dev/console: the container has one already, or none.
    """
    profile = process.filter_profile(linux)
    flags = 0
    for namespace in linux.namespaces:
        flags |= FLAGS[namespace.type]
    made: list[steps.Step] = []
    if profile is not None:
        made.append(steps.CompileSeccomp(profile=profile, why="linux.seccomp"))
    made += connect_steps(request.console_socket)
    made.append(
        steps.Spawn(
            flags=0, names=(), join_pid=bool(flags & c.CLONE_NEWPID), why="a child of the runtime"
        )
    )
    if wanted.oomScoreAdj is not None:
        made.append(steps.AdjustOomScore(score=wanted.oomScoreAdj, why="process.oomScoreAdj"))
    made += [
        steps.Guard(preserve_fds=request.preserve_fds, why="the container may hold hostile code"),
        steps.JoinKeyring(why="the caller's keys stay out"),
        steps.JoinProcess(
            flags=flags,
            names=tuple(name for flag, name in FILES.items() if flags & flag),
            why="linux.namespaces",
        ),
    ]
    if not flags & c.CLONE_NEWNS:
        made.append(steps.ChangeDirectoryRoot(path=rootfs, why="no mount namespace"))
    if wanted.terminal:
        made.append(process.terminal_step(wanted, request.window, console=False))
    made += process.become_steps(wanted, linux, facts, profile, make_cwd=False)
    made += hand_over_steps(request.pid_file, request.pidfd_socket)
    before, after = process.last_steps(wanted, profile, request.preserve_fds)
    return (*made, *before, *after)
