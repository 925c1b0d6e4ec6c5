"""run: create, start and, in the foreground, wait and delete."""

from __future__ import annotations

import _signal

from ..errors import SpecError
from ..kernel import calls
from ..kernel import const as c
from ..kernel.wait import Until
from ..launch.bring_up import bring_up_with_terminal
from ..launch.launch import Caller
from . import console, poststart, poststop
from .bundle import Bundle
from .foreground import stay
from .prepare import activated, notified, prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..launch.launch import ContainerLaunch
    from ..options import Options
    from ..plan.request import Request
    from ..plan.walk import Times
    from ..spec.records import Spec


def run(
    options: Options, request: Request, on_timing: Callable[[Times], None] | None = None
) -> int:
    """
    Run a bundle; returns its program's exit status, or 0 at once when detached.

    on_timing gets the times of the steps once the program runs.

    Raises PycontainError after undoing everything; Interrupted after SIGINT or SIGTERM.
    """
    bundle = Bundle(request.bundle, request.config)
    if bundle.spec.process is None:
        raise SpecError("is required by run, but missing", at="process")
    console.check(bundle.spec.process, request.console_socket, detached=request.detach)
    listen_fds = activated()
    complete = request.replace(
        separate_start=False,
        window=console.window(detached=request.detach),
        plain=console.is_plain(detached=request.detach),
        takes_files=request.detach,
        preserve_fds=listen_fds + request.preserve_fds,
        listen_fds=listen_fds,
    )
    _signal.pthread_sigmask(_signal.SIG_BLOCK, c.ALL_SIGNALS)
    with Until.interrupted() as until:
        complete = notified(options, complete)
        launch = prepare(options, bundle, complete, Caller(until=until))
        if not (request.detach or request.no_subreaper):
            calls.prctl(c.PR_SET_CHILD_SUBREAPER, 1, name="PR_SET_CHILD_SUBREAPER")
        terminal = _bring_up(launch, bundle.spec, request.detach)
        if launch.proxy is not None and request.detach:
            launch.proxy.forward(launch.child.pidfd, launch.child.pid, until)
        elif launch.proxy is not None:
            launch.proxy.forward_aside(launch.child.pidfd)
    if on_timing is not None:
        on_timing(launch.times)
    if request.detach:
        return 0
    status = stay(launch.child, terminal)
    if launch.proxy is not None:
        launch.proxy.close()
    if launch.killed_by_oom:
        options.warn("the container ran out of memory (memory.max) and was killed by the kernel")
    if not request.keep and launch.finish():
        poststop.run(bundle.spec, launch.state, options.warn)
    return status


def _bring_up(launch: ContainerLaunch, spec: Spec, detach: bool) -> int:
    """Start the program and the poststart hooks; returns the terminal's master, or -1."""
    master = bring_up_with_terminal(launch, spec.process, detached=detach)
    run_poststart(launch, spec)
    launch.release()
    return master


def run_poststart(launch: ContainerLaunch, spec: Spec) -> None:
    """Run the poststart hooks. Raises HookError after undoing everything."""
    launch.directory.unlock()  # a hook may use the container
    try:
        poststart.run(spec, launch.state, launch.caller.until)
    except BaseException:
        launch.hooks_ran = True
        launch.undo()
        raise
