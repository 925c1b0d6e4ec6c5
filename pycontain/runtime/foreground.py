"""Staying with a container until it ends: signals go in, its terminal comes out."""

from __future__ import annotations

import _signal
import errno
import os
import select

from ..errors import KernelError
from ..kernel import calls
from .console import Foreground

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .life import Life

# Not the container's business: news of our own children, and what the kernel tells us alone.
_OWN = frozenset((_signal.SIGCHLD, _signal.SIGPIPE, _signal.SIGURG))
_PIECE = 65536


def stay(life: Life, master: int) -> int:
    """
    Wait for the end of what a life brought up, serving its terminal when master is not -1.

    Returns its exit status, or 128 and the signal that killed it, as a shell would.
    """
    child = life.child
    assert child is not None
    if master < 0:
        return _stay(child.pid, child.pidfd, None)
    with Foreground(master) as terminal:
        return _stay(child.pid, child.pidfd, terminal)


def _stay(pid: int, pidfd: int, terminal: Foreground | None) -> int:
    """Wait for a child's end, passing on every signal; all must be blocked already."""
    signals = calls.all_signals()
    watch = select.poll()
    handlers: dict[int, Callable[[], None]] = {
        signals: lambda: _pass_signals(signals, pid, pidfd, terminal),
        pidfd: lambda: None,
    }
    if terminal is not None:
        handlers[0] = lambda: _copy(0, terminal.master, watch)
        handlers[terminal.master] = lambda: _copy(terminal.master, 1, watch)
    for fd in handlers:
        watch.register(fd, select.POLLIN)
    ended = False
    while not ended:
        ready = [fd for fd, _ in watch.poll()]
        for fd in ready:
            handlers[fd]()
        ended = pidfd in ready
    if terminal is not None:
        _drain(terminal.master)
    os.close(signals)
    return exit_status(os.waitid(os.P_PIDFD, pidfd, os.WEXITED))


def exit_status(ended: os.waitid_result | None) -> int:
    """A shell's view of how a process ended."""
    assert ended is not None
    return ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status


def _pass_signals(signals: int, pid: int, pidfd: int, terminal: Foreground | None) -> None:
    size_of_siginfo = 128
    data = os.read(signals, size_of_siginfo)
    number = int.from_bytes(data[:4], "little")
    if number == _signal.SIGCHLD:
        _reap_orphans(pid)
    elif number == _signal.SIGWINCH and terminal is not None:
        terminal.resize()
    elif number not in _OWN:
        _send(pidfd, number)


def _send(pidfd: int, number: int) -> None:
    try:
        calls.send_signal(pidfd, number)
    except KernelError as error:
        if error.errno != errno.ESRCH:  # it has just ended
            raise


def _reap_orphans(pid: int) -> None:
    """Processes of a container without a pid namespace become the subreaper's when orphaned."""
    look = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while (ended := os.waitid(os.P_ALL, 0, look)) is not None and ended.si_pid != pid:
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
