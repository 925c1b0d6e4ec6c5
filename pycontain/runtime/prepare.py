"""What create, run and the library do before a container is launched."""

from __future__ import annotations

import time

from ..cgroup.disabled import log_unfiltered
from ..kernel.rights import systemd_of
from ..kernel.wait import FOREVER
from ..launch.launch import ContainerLaunch
from ..lean import os
from ..spec.annotations import ISOLATION
from ..state.directory import StateDir
from ..state.record import State
from . import poststop
from .bundle import check_rootfs
from .host import entered, may_contain, user
from .preserved import check_preserved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..launch.launch import Caller
    from ..options import Options
    from ..plan.request import Request
    from ..spec.records import Spec
    from .bundle import Bundle


def prepare(
    options: Options, bundle: Bundle, request: Request, caller: Caller | None = None
) -> ContainerLaunch:
    """A launch that is ready to be brought up. Raises SpecError, UsageError and HostError."""
    if entered or not may_contain():
        from . import rootless

        bundle = rootless.entered(bundle, caller.until if caller else FOREVER)
    check_preserved(request.preserve_fds, request.listen_fds)
    cgroup = options.cgroup_manager != "disabled"
    names = activated_names() if request.listen_fds else ""
    request = request.replace(
        bundle=bundle.path,
        cgroup=cgroup,
        systemd=systemd_of(options.cgroup_manager, options.rootless),
        listen_names=names,
    )
    plan = bundle.plan(request)
    check_rootfs(plan.rootfs)
    for warning in plan.warnings:
        options.warn(warning)
    if not cgroup and bundle.spec.linux and bundle.spec.linux.resources:
        log_unfiltered(options, len(bundle.spec.linux.resources.devices))
    return ContainerLaunch(
        options,
        plan.turns,
        directory=StateDir(options.root, request.id),
        state=first_state(bundle.spec, request, plan.rootfs),
        config=bundle.text,
        poststop=lambda state, until: poststop.run(bundle.spec, state, options.warn, until),
        caller=caller,
    )


def first_state(spec: Spec, request: Request, rootfs: str) -> State:
    """The state of a container that does not exist yet."""
    return State(
        id=request.id,
        ociVersion=spec.ociVersion,
        bundle=request.bundle,
        rootfs=rootfs,
        created=now(),
        owner=user(),
        annotations=(
            {**spec.annotations, ISOLATION: request.isolation}
            if request.isolation
            else spec.annotations
        ),
        process=spec.process is not None,
        poststart=bool(spec.hooks and spec.hooks.poststart),
        poststop=bool(spec.hooks and spec.hooks.poststop),
        shares_pids=not any(
            entry.type == "pid" and not entry.path
            for entry in (spec.linux.namespaces if spec.linux else ())
        ),
    )


def notified(options: Options, request: Request) -> Request:
    """Add the directory for a notification socket, if the caller has such a socket."""
    if b"NOTIFY_SOCKET" not in os.environ:
        return request
    from ..state.directory import NOTIFY

    path = os.path.join(os.path.abspath(options.root), request.id, NOTIFY)
    return request.replace(notify=path)


def now() -> str:
    """The time in RFC 3339 with microseconds, UTC."""
    seconds, micro = divmod(time.time_ns() // 1000, 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{micro:06d}Z"


def activated() -> int:
    """How many sockets systemd has passed to us, from descriptor 3 up. sd_listen_fds(3)."""
    if os.environ.get(b"LISTEN_PID") != str(os.getpid()).encode():
        return 0
    count = os.environ.get(b"LISTEN_FDS", b"")
    return int(count) if count.isdigit() and len(count) < 10 else 0  # int() refuses 4300 digits


def activated_names() -> str:
    """The sockets' names, separated by colons. sd_listen_fds_with_names(3)."""
    return os.fsdecode(os.environ.get(b"LISTEN_FDNAMES", b""))
