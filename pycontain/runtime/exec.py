"""exec: run another program in a container."""

from __future__ import annotations

import _signal
import errno

from ..cgroup import place
from ..cgroup.disabled import NoCgroup
from ..cgroup.tree import Cgroup
from ..errors import Interrupted, KernelError, ProgramError, PycontainError, StateError, UsageError
from ..kernel import const as c
from ..kernel.files import read_text as read_file
from ..kernel.rights import is_rootless
from ..kernel.wait import Until
from ..launch.bring_up import bring_up_with_terminal
from ..launch.launch import Caller, Launch
from ..lean import os
from ..plan.joining import build
from ..plan.process import warnings
from ..spec.annotations import KEEP_GROUPS
from ..spec.check import check_process
from ..spec.parse import parse, read_text
from ..spec.records import Capabilities, Linux, Process, User
from ..state.record import public_state
from . import console
from .foreground import stay
from .handle import Handle
from .host import read_facts
from .preserved import check_preserved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..options import Options
    from ..plan.request import ExecRequest
    from ..spec.records import Spec

_STATUS = 255  # if exec itself fails, as in runc: unlikely to be the program's own


def exec_(options: Options, request: ExecRequest) -> int:
    """
    Start a program in a container; returns its exit status, or 0 at once when detached.

    Raises PycontainError with exit status 255, 126 or 127.
    """
    try:
        _signal.pthread_sigmask(_signal.SIG_BLOCK, c.ALL_SIGNALS)
        with Until.interrupted() as until:
            launch, master = _bring_up(options, request, until)
    except PycontainError as error:
        if not isinstance(error, (Interrupted, ProgramError)):
            error.fault.status = _STATUS
        raise
    return 0 if request.detach else stay(launch.child, master)


def _bring_up(options: Options, request: ExecRequest, until: Until) -> tuple[Launch, int]:
    """Start the program; returns its launch, and the master of its terminal, or -1."""
    container = Handle(options, request.id)
    spec = parse(container.directory.load_config())
    process = _wanted(request, spec, until)
    check_preserved(request.preserve_fds)
    tty = request.tty and not request.process
    console.check(process, request.console_socket, detached=request.detach, tty=tty)
    complete = request.replace(
        window=console.window(detached=request.detach),
        plain=console.is_plain(detached=request.detach),
        takes_files=request.detach,
    )
    launch = _launch(options, container, spec, process, complete, Caller(until=until))
    return launch, bring_up_with_terminal(launch, process, detached=request.detach)


def prepare(options: Options, request: ExecRequest, caller: Caller) -> Launch:
    """
    The launch of the library's `exec`: the container's own process with other arguments.

    Unlike that of the command line, it takes names of users and groups.
    """
    container = Handle(options, request.id)
    spec = parse(container.directory.load_config())
    from . import users  # the command line takes numbers alone

    if not users.is_numeric(request.user):
        request = users.resolved(container, request)
    return _launch(options, container, spec, _wanted(request, spec, caller.until), request, caller)


def _wanted(request: ExecRequest, spec: Spec, until: Until) -> Process:
    """The requested process, checked. Raises SpecError and UsageError."""
    if request.process:
        text = read_file(request.process, until)
        process = _completed(read_text(Process, text, f"{request.process}: process"), spec)
    else:
        process = _process(request, spec)
    check_process(process, spec.linux)
    return process


def _completed(process: Process, spec: Spec) -> Process:
    """A process from a file; capabilities and labels are the container's by default."""
    own = spec.process
    if own is None:
        return process
    score = own.oomScoreAdj if process.oomScoreAdj is None else process.oomScoreAdj
    return process.replace(
        capabilities=process.capabilities or own.capabilities,
        oomScoreAdj=score,
        apparmorProfile=process.apparmorProfile or own.apparmorProfile,
        selinuxLabel=process.selinuxLabel or own.selinuxLabel,
    )


def _process(request: ExecRequest, spec: Spec) -> Process:
    """The container's own process with other arguments."""
    if spec.process is None:
        raise UsageError("has no process to start from", at="config.json", remedy="use --process")
    own = spec.process
    return own.replace(
        args=request.args,
        terminal=request.tty,
        cwd=request.cwd or own.cwd,
        env=own.env + request.env,
        user=_user(own.user or User(at="process.user"), request.user, request.additional_gids),
        capabilities=_capabilities(own.capabilities, request.cap),
        noNewPrivileges=own.noNewPrivileges or request.no_new_privs,
        apparmorProfile=request.apparmor or own.apparmorProfile,
        selinuxLabel=request.process_label or own.selinuxLabel,
    )


def _user(own: User, user: str, additional_gids: tuple[int, ...]) -> User:
    """The user for a text UID[:GID]; names are never looked up (CVE-2016-3697)."""
    groups = own.additionalGids + additional_gids
    if not user:
        return own.replace(additionalGids=groups)
    uid, colon, gid = user.partition(":")
    if not _is_id(uid) or (colon and not _is_id(gid)):
        raise UsageError(
            "is not UID or UID:GID", at="--user", value=repr(user), remedy="use numbers"
        )
    return own.replace(uid=int(uid), gid=int(gid) if colon else own.gid, additionalGids=groups)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) < 2**32 - 1  # that one means "none"


def _capabilities(own: Capabilities | None, more: tuple[str, ...]) -> Capabilities | None:
    """
    The sets with more capabilities; never added to the inheritable set (CVE-2022-29162).

    Those that the container has as inheritable become ambient, too, so that users other than root
    get them. capabilities(7): the kernel raises no others.
    """
    if not more:
        return own
    sets = own or Capabilities(at="process.capabilities")
    return sets.replace(
        bounding=sets.bounding + more,
        permitted=sets.permitted + more,
        effective=sets.effective + more,
        ambient=sets.ambient + tuple(name for name in more if name in sets.inheritable),
    )


def _open_to_processes(own: Cgroup, pid: int) -> Cgroup:
    """
    The container's cgroup, or that of its first process if the container has divided its own.

    A cgroup that delegates controllers to its children cannot contain processes: cgroups(7), "No
    internal processes" rule. systemd does that as a container's program. If somebody has moved the
    process and removed the container's cgroup, the process's new cgroup is used.
    """
    try:
        divided = own.read("cgroup.subtree_control").strip()
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
        return Cgroup(own.mount, place.own(pid))
    path = place.own(pid) if divided else ""
    return Cgroup(own.mount, path) if path.startswith(f"{own.path}/") else own


def _launch(
    options: Options,
    container: Handle,
    spec: Spec,
    process: Process,
    request: ExecRequest,
    caller: Caller,
) -> Launch:
    """The launch that starts a process in a container. Raises StateError if it is stopped."""
    status = container.require("created", "running", "paused")
    if is_rootless(options.rootless):
        from . import rootless

        rootless.join(container.state.pid)
    if status == "paused" and not request.ignore_paused:
        raise StateError(
            "is paused: cannot exec in a paused container",
            at="container",
            value=container.state.id,
            remedy="resume it, or use --ignore-paused",
        )
    facts = read_facts()
    if KEEP_GROUPS in spec.annotations:
        from ..plan.groups import keeping_groups

        process, facts = keeping_groups(process, facts)
    linux = spec.linux or Linux(at="linux")
    request = request.replace(isolation=request.engine(container.state.annotations))
    turns = build(process, linux, container.state.rootfs, request, facts)
    for warning in warnings(process, facts):
        options.warn(warning)
    cgroup = _cgroup(container, request.cgroup)
    joined = public_state(container.state, status, container.state.pid)
    return Launch(
        options, turns, cgroup=cgroup, target=container.pidfd(), caller=caller, joined=joined
    )


def _cgroup(container: Handle, below: str) -> Cgroup | NoCgroup:
    """The cgroup to start in: the container's, or one below it. Raises UsageError, StateError."""
    if os.path.normpath(below).split("/")[0] == "..":
        raise UsageError("is a bad sub cgroup path", at="--cgroup", value=below)
    own = container.cgroup
    if own is not None and below:
        return _existing(own.below(below), below)
    if own is not None:
        return _open_to_processes(own, container.state.pid)
    if below:
        raise StateError("has no cgroup", at="container", value=container.state.id)
    return NoCgroup()


def _existing(cgroup: Cgroup, below: str) -> Cgroup:
    if not os.path.isdir(cgroup.directory):
        raise StateError(
            "no such file or directory",  # runc's words: here they are about no program
            call="open the cgroup",
            at="--cgroup",
            value=below,
            remedy="create it first, below the container's own cgroup",
        )
    return cgroup
