"""create: a bundle becomes a container that waits for `start`. runtime.md, Create."""

from __future__ import annotations

import _signal
import time

from .. import os
from ..errors import UsageError
from ..plan.plan import Request
from ..wire.state import State
from . import console, poststop
from .bundle import Bundle, check_rootfs
from .life import ALL_SIGNALS, Life

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..spec.records import Spec
    from .options import Options


def create(
    options: Options,
    id: str,
    *,
    bundle: str = ".",
    console_socket: str = "",
    pid_file: str = "",
    pidfd_socket: str = "",
    no_pivot: bool = False,
    no_new_keyring: bool = False,
    preserve_fds: int = 0,
    config: str = "",
) -> None:
    """
    Make a container of a bundle; its program runs when `start` is called.

    Raises PycontainError after undoing everything.
    """
    # one that came half-way would be reported as a failure, with a container left behind
    _signal.pthread_sigmask(_signal.SIG_BLOCK, ALL_SIGNALS)
    loaded = Bundle(bundle, config)
    console.check(loaded.spec.process, console_socket, detached=True)
    listen_fds = activated()
    request = Request(
        id=id,
        bundle=loaded.path,
        console_socket=console_socket,
        pid_file=pid_file,
        pidfd_socket=pidfd_socket,
        pivot=not no_pivot,
        keyring=not no_new_keyring,
        preserve_fds=listen_fds + preserve_fds,
        listen_fds=listen_fds,
        cgroup=options.cgroup_manager != "disabled",
    )
    life = prepare(options, loaded, request)
    life.bring_up()


def prepare(options: Options, bundle: Bundle, request: Request) -> Life:
    """A life that is ready to be brought up. Raises SpecError."""
    check_preserved(request.preserve_fds, request.listen_fds)
    plan = bundle.plan(request)
    check_rootfs(plan.rootfs)
    life = Life(options, request.id, plan.steps)
    life.config = bundle.text
    life.state = first_state(bundle.spec, request, plan.rootfs)
    life.poststop = lambda state: poststop.run(bundle.spec, state, options.warn)
    for warning in plan.warnings:
        options.warn(warning)
    return life


def first_state(spec: Spec, request: Request, rootfs: str) -> State:
    """The state of a container that does not exist yet."""
    return State(
        id=request.id,
        ociVersion=spec.ociVersion,
        bundle=request.bundle,
        rootfs=rootfs,
        created=now(),
        owner=os.geteuid(),
        annotations=spec.annotations,
        poststop=bool(spec.hooks and spec.hooks.poststop),
        shares_pids=not any(
            entry.type == "pid" and not entry.path
            for entry in (spec.linux.namespaces if spec.linux else ())
        ),
    )


def now() -> str:
    """The time in RFC 3339 with microseconds, UTC."""
    seconds, micro = divmod(time.time_ns() // 1000, 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{micro:06d}Z"


def activated() -> int:
    """How many sockets systemd has passed on to us, from descriptor 3 on. sd_listen_fds(3)."""
    if os.environ.get(b"LISTEN_PID") != str(os.getpid()).encode():
        return 0
    count = os.environ.get(b"LISTEN_FDS", b"")
    return int(count) if count.isdigit() else 0


def check_preserved(count: int, activated: int = 0) -> None:
    """
    Raises UsageError unless the descriptors to preserve are open, and the caller's.

    activated is how many of them, the first, systemd has told of. Ours are all close-on-exec;
    those that came through execve(2) are not.
    """
    if count < 0:
        raise UsageError("is less than 0", at="--preserve-fds", value=str(count))
    for fd in range(3, 3 + count):
        try:
            passed = os.get_inheritable(fd)
        except OSError:
            passed = False
        if not passed:
            told = fd < 3 + activated
            raise UsageError(
                f"asks for descriptor {fd}, which is not open",
                at="LISTEN_FDS" if told else "--preserve-fds",
                value=str(activated if told else count - activated),
            )
