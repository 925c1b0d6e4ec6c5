"""exec: one more program in a container that runs."""

from __future__ import annotations

import _signal

from .. import os
from ..cgroup import place
from ..cgroup.tree import Cgroup
from ..errors import ProgramError, PycontainError, StateError, UsageError
from ..kernel.files import read_text as read_file
from ..plan.joining import JoinRequest, build
from ..plan.process import warnings
from ..spec.check import check_process
from ..spec.parse import parse, read_text
from ..spec.records import Capabilities, Linux, Process, User
from . import console
from .container import Container
from .create import check_preserved
from .foreground import stay
from .host import read_facts
from .life import ALL_SIGNALS, Life

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan import steps
    from ..plan.facts import Facts
    from ..spec.records import Spec
    from .options import Options

_FAILED = 255  # as runc's exec, so that it cannot be mistaken for the program's own status


def exec_(
    options: Options,
    id: str,
    args: tuple[str, ...] = (),
    *,
    process: str = "",
    tty: bool = False,
    detach: bool = False,
    pid_file: str = "",
    console_socket: str = "",
    pidfd_socket: str = "",
    cwd: str = "",
    env: tuple[str, ...] = (),
    user: str = "",
    additional_gids: tuple[int, ...] = (),
    cap: tuple[str, ...] = (),
    no_new_privs: bool = False,
    preserve_fds: int = 0,
    cgroup: str = "",
    ignore_paused: bool = False,
) -> int:
    """
    Start a program in a container; returns its exit status, or 0 at once when detached.

    The process is that of the JSON file `process`, or the container's own with what the other
    arguments change. Raises PycontainError with exit status 255, 126 or 127.
    """
    try:
        container = Container(options, id)
        spec = parse(container.directory.load_config())
        wanted = (
            _completed(read_text(Process, read_file(process), f"{process}: process"), spec)
            if process
            else _process(spec, args, tty, cwd, env, user, additional_gids, cap, no_new_privs)
        )
        check_process(wanted)
        check_preserved(preserve_fds)
        console.check(wanted, console_socket, detached=detach)
        _signal.pthread_sigmask(_signal.SIG_BLOCK, ALL_SIGNALS)
        life = _join(options, container, cgroup, ignore_paused)
        request = JoinRequest(
            console_socket=console_socket,
            window=console.window(detached=detach),
            plain=console.is_plain(detached=detach),
            takes_files=detach,
            pid_file=pid_file,
            pidfd_socket=pidfd_socket,
            preserve_fds=preserve_fds,
        )
        facts = read_facts()
        life.plan = _plan(container, spec, wanted, request, facts)
        for warning in warnings(wanted, facts):
            options.warn(warning)
        master = life.bring_up_with_terminal(wanted, detached=detach)
    except PycontainError as error:
        if not isinstance(error, ProgramError):
            error.fault.status = _FAILED
        raise
    return 0 if detach else stay(life, master)


def prepare(
    options: Options, id: str, args: tuple[str, ...], *, env: tuple[str, ...], cwd: str
) -> Life:
    """What the library's `exec` brings up: the container's own process with other arguments."""
    container = Container(options, id)
    spec = parse(container.directory.load_config())
    wanted = _process(spec, args, False, cwd, env, "", (), (), False)
    check_process(wanted)
    life = _join(options, container, "", ignore_paused=False)
    life.plan = _plan(container, spec, wanted, JoinRequest(), read_facts())
    return life


def _plan(
    container: Container, spec: Spec, wanted: Process, request: JoinRequest, facts: Facts
) -> tuple[steps.Step, ...]:
    linux = spec.linux or Linux(at="linux")
    return build(wanted, linux, container.state.rootfs, request, facts)


def _completed(wanted: Process, spec: Spec) -> Process:
    """A process of a file; like runc, it has the container's capabilities unless it names some."""
    own = spec.process
    if own is None:
        return wanted
    score = own.oomScoreAdj if wanted.oomScoreAdj is None else wanted.oomScoreAdj
    return wanted.but(capabilities=wanted.capabilities or own.capabilities, oomScoreAdj=score)


def _process(
    spec: Spec,
    args: tuple[str, ...],
    tty: bool,
    cwd: str,
    env: tuple[str, ...],
    user: str,
    additional_gids: tuple[int, ...],
    cap: tuple[str, ...],
    no_new_privs: bool,
) -> Process:
    """The container's own process with other arguments."""
    if spec.process is None:
        raise UsageError("has no process to start from", at="config.json", remedy="use --process")
    own = spec.process
    return own.but(
        args=args,
        terminal=tty,
        cwd=cwd or own.cwd,
        env=own.env + env,
        user=_user(own.user or User(at="process.user"), user, additional_gids),
        capabilities=_capabilities(own.capabilities, cap),
        noNewPrivileges=own.noNewPrivileges or no_new_privs,
    )


def _user(own: User, wanted: str, additional_gids: tuple[int, ...]) -> User:
    """The user of a text UID[:GID]; names are never looked up (CVE-2016-3697)."""
    groups = own.additionalGids + additional_gids
    if not wanted:
        return own.but(additionalGids=groups)
    uid, colon, gid = wanted.partition(":")
    if not _is_id(uid) or (colon and not _is_id(gid)):
        raise UsageError(
            "is not UID or UID:GID", at="--user", value=repr(wanted), remedy="use numbers"
        )
    return own.but(uid=int(uid), gid=int(gid) if colon else own.gid, additionalGids=groups)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) < 2**32 - 1  # the last one is "none"


def _capabilities(own: Capabilities | None, more: tuple[str, ...]) -> Capabilities | None:
    """The sets with more capabilities; never the inheritable one (CVE-2022-29162)."""
    if not more:
        return own
    sets = own or Capabilities(at="process.capabilities")
    return sets.but(
        bounding=sets.bounding + more,
        permitted=sets.permitted + more,
        effective=sets.effective + more,
    )


def _open_to_processes(own: Cgroup, pid: int) -> Cgroup:
    """
    The container's cgroup, or that of its first process if the container divides its own.

    A cgroup whose controllers are passed on takes no process itself: cgroups(7), "No internal
    processes" rule. systemd as a container's program does that.
    """
    if not own.read("cgroup.subtree_control").strip():
        return own
    path = place.own(pid)
    return Cgroup(own.mount, path) if path.startswith(f"{own.path}/") else own


def _join(
    options: Options,
    container: Container,
    cgroup: str,
    ignore_paused: bool,
) -> Life:
    status = container.require("created", "running", "paused")
    if status == "paused" and not ignore_paused:
        raise StateError(
            "is paused: cannot exec in a paused container",
            at="container",
            value=container.state.id,
            remedy="resume it, or use --ignore-paused",
        )
    if os.path.normpath(cgroup).split("/")[0] == "..":
        raise UsageError("is a bad sub cgroup path", at="--cgroup", value=cgroup)
    life = Life(options, container.state.id, ())
    life.target = container.pidfd()
    own = container.cgroup
    if own is not None:
        life.cgroup = own.below(cgroup) if cgroup else _open_to_processes(own, container.state.pid)
    elif cgroup:
        raise StateError("has no cgroup", at="container", value=container.state.id)
    return life
