"""run: create, start and, in the foreground, wait and delete."""

from __future__ import annotations

import _signal

from ..errors import SpecError
from ..kernel import calls
from ..kernel import const as c
from ..plan.plan import Request
from . import console, poststart, poststop
from .bundle import Bundle
from .create import activated, prepare
from .foreground import stay
from .life import ALL_SIGNALS, Life

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..spec.records import Spec
    from .options import Options

    Timings = list[tuple[str, str, int]]


def run(
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
    detach: bool = False,
    keep: bool = False,
    no_subreaper: bool = False,
    on_timing: Callable[[Timings], None] | None = None,
) -> int:
    """
    Run a bundle; returns its program's exit status, or 0 at once when detached.

    on_timing gets (side, step, microseconds) of every step once the program runs.
    Raises PycontainError after undoing everything.
    """
    loaded = Bundle(bundle, config)
    if loaded.spec.process is None:
        raise SpecError("is required but missing: there is nothing to run", at="process")
    console.check(loaded.spec.process, console_socket, detached=detach)
    listen_fds = activated()
    request = Request(
        id=id,
        bundle=loaded.path,
        separate_start=False,
        console_socket=console_socket,
        window=console.window(detached=detach),
        plain=console.is_plain(detached=detach),
        takes_files=detach,
        pid_file=pid_file,
        pidfd_socket=pidfd_socket,
        pivot=not no_pivot,
        keyring=not no_new_keyring,
        preserve_fds=listen_fds + preserve_fds,
        listen_fds=listen_fds,
        cgroup=options.cgroup_manager != "disabled",
    )
    life = prepare(options, loaded, request)
    _signal.pthread_sigmask(_signal.SIG_BLOCK, ALL_SIGNALS)
    if not (detach or no_subreaper):
        calls.prctl(c.PR_SET_CHILD_SUBREAPER, 1, name="PR_SET_CHILD_SUBREAPER")
    terminal = _bring_up(life, loaded.spec, detach)
    if on_timing is not None:
        on_timing(life.times)
    if detach:
        return 0
    status = stay(life, terminal)
    if life.killed_by_oom:
        options.warn("the container ran out of memory (memory.max), the kernel killed it")
    if not keep and life.finish():
        poststop.run(loaded.spec, life.known, options.warn)
    return status


def _bring_up(life: Life, spec: Spec, detach: bool) -> int:
    """Start the program and the poststart hooks; returns the terminal's master, or -1."""
    master = life.bring_up_with_terminal(spec.process, detached=detach)
    life.directory.unlock()  # a hook may use the container
    try:
        poststart.run(spec, life.known)
    except BaseException:
        life.undo(hooks_ran=True)
        raise
    life.release()
    return master
