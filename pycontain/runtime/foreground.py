"""Staying with a container until it ends: signals go in, its terminal comes out."""

from __future__ import annotations

import _signal
import errno
import sys

from .. import os
from ..errors import KernelError
from ..kernel import calls
from .console import Foreground

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select
    from collections.abc import Callable

    from .life import Life
    from .spawn import Child

# Not the container's business: news of our own children, and what the kernel tells us alone.
_OWN = frozenset((_signal.SIGCHLD, _signal.SIGPIPE, _signal.SIGURG))
_PIECE = 65536
_SIGINFO = 128  # bytes of struct signalfd_siginfo, which begins with the signal's number
_LOOK = os.WEXITED | os.WNOHANG | os.WNOWAIT


def stay(life: Life, master: int) -> int:
    """
    Wait for the end of what a life brought up, passing on every signal; all must be blocked.

    Serves the terminal whose master this is, unless it is -1. Returns the exit status, or 128 and
    the number of the signal that killed it, as a shell would.
    """
    child = life.child
    assert child is not None
    signals = calls.all_signals()
    if master < 0:
        ended = False
        while not ended:
            _pass_signal(signals, child, None)
            ended = os.waitid(os.P_PIDFD, child.pidfd, _LOOK) is not None
    else:
        with Foreground(master) as terminal:
            _serve(terminal, signals, child)
    os.close(signals)
    status = exit_status(os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED))
    os.close(child.pidfd)
    return status


def _serve(terminal: Foreground, signals: int, child: Child) -> None:
    """Copy between the two terminals until the child has ended."""
    import select

    watch = select.poll()
    handlers: dict[int, Callable[[], None]] = {
        signals: lambda: _pass_signal(signals, child, terminal),
        child.pidfd: lambda: None,
        0: lambda: _copy(0, terminal.master, watch),
        terminal.master: lambda: _copy(terminal.master, 1, watch),
    }
    for fd in handlers:
        watch.register(fd, select.POLLIN)
    ready: list[int] = []
    while child.pidfd not in ready:
        ready = [fd for fd, _ in watch.poll()]
        for fd in ready:
            handlers[fd]()
    _drain(terminal.master)


def exit_status(ended: os.waitid_result | None) -> int:
    """A shell's view of how a process ended."""
    assert ended is not None
    return ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status


def _pass_signal(signals: int, child: Child, terminal: Foreground | None) -> None:
    """Take the next signal and do what it asks for."""
    number = int.from_bytes(os.read(signals, _SIGINFO)[:4], sys.byteorder)
    if number == _signal.SIGCHLD:
        _reap_orphans(child.pid)
    elif number == _signal.SIGWINCH and terminal is not None:
        terminal.resize()
    elif number not in _OWN:
        _send(child.pidfd, number)


def _send(pidfd: int, number: int) -> None:
    try:
        calls.send_signal(pidfd, number)
    except KernelError as error:
        if error.errno != errno.ESRCH:  # it has just ended
            raise


def _reap_orphans(pid: int) -> None:
    """Processes of a container without a pid namespace become the subreaper's when orphaned."""
    while (ended := os.waitid(os.P_ALL, 0, _LOOK)) is not None and ended.si_pid != pid:
        os.waitid(os.P_PID, ended.si_pid, os.WEXITED)


def _copy(source: int, target: int, watch: select.poll) -> None:
    """Copy what is there; a side that has ended is watched no more."""
    try:
        data = os.read(source, _PIECE)
    except OSError as error:
        if error.errno != errno.EIO:  # the last slave was closed
            raise
        data = b""
    if not data:
        return watch.unregister(source)
    while data:
        data = data[os.write(target, data) :]


def _drain(master: int) -> None:
    """What the container wrote last."""
    os.set_blocking(master, False)
    try:
        while data := os.read(master, _PIECE):
            os.write(1, data)
    except OSError as error:
        if error.errno not in (errno.EIO, errno.EAGAIN):
            raise
