"""Staying with a container until it ends: signals go in, its terminal comes out."""

from __future__ import annotations

import _signal
import errno
import sys

from ..errors import KernelError
from ..kernel import calls
from ..lean import os
from .console import Foreground

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..launch.launch import Child

# Not the container's business: news of our own children, and what the kernel tells us alone.
_OWN = frozenset((_signal.SIGCHLD, _signal.SIGPIPE, _signal.SIGURG))
_STDOUT = 1
_PIECE = 4096  # bytes: a pipe with any room takes so many without blocking (PIPE_BUF, pipe(7))
_HELD = 1 << 17  # bytes: a terminal that nobody reads takes fewer (64 KiB, N_TTY's 4 more)
_SIGINFO = 128  # bytes of struct signalfd_siginfo, which begins with the signal's number
_LOOK = os.WEXITED | os.WNOHANG | os.WNOWAIT


def stay(child: Child, master: int) -> int:
    """
    Wait for the end of a child, passing on every signal; all must be blocked.

    Serves the terminal whose master this is, unless it is -1. Returns the exit status, or 128 and
    the number of the signal that killed it, as a shell would.
    """
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
    """
    Copy between the two terminals until the child has ended.

    Nothing here waits for a program to read: what it leaves unread stays where it came from.
    """
    import select

    os.set_blocking(terminal.master, False)
    ways = _Way(0, terminal.master), _Way(terminal.master, _STDOUT)
    ready: set[int] = set()
    while child.pidfd not in ready:
        events = {signals: select.POLLIN, child.pidfd: select.POLLIN}
        going = [way for way in ways if not way.ended]
        for way in going:  # the master is waited for by both
            wanted = select.POLLOUT if way.pending else select.POLLIN
            events[way.waits_for] = events.get(way.waits_for, 0) | wanted
        watch = select.poll()
        for fd, wanted in events.items():
            watch.register(fd, wanted)
        ready = {fd for fd, _ in watch.poll()}
        if signals in ready:
            _pass_signal(signals, child, terminal)
        for way in going:
            if way.waits_for in ready:
                way.go_on()
    _drain(ways[1])


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


class _Way:
    """
    One way between the two terminals.

    pending  what was read and is not written yet; until it is, no more is read
    ended    nothing more comes, or nobody takes it
    """

    __slots__ = ("ended", "pending", "source", "target")

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self.target = target
        self.pending = b""
        self.ended = False

    @property
    def waits_for(self) -> int:
        """The descriptor whose readiness lets it go on."""
        return self.target if self.pending else self.source

    def go_on(self) -> None:
        """Write what is pending, or else read; the master of a terminal never blocks."""
        try:
            if self.pending:
                self.pending = self.pending[os.write(self.target, self.pending) :]
            else:
                self.pending = os.read(self.source, _PIECE)
                self.ended = not self.pending
        except BlockingIOError:
            pass
        except OSError as error:
            # the other end of a terminal is closed; when that was ours, nobody is left to serve
            if error.errno != errno.EIO or (self.pending and self.target == _STDOUT):
                raise
            self.ended = True


def _drain(output: _Way) -> None:
    """What the container wrote last; processes that outlive the program may go on writing."""
    import select

    left = _HELD
    while left > 0:
        if not output.pending:
            output.go_on()
        if not output.pending:  # there is no more
            return
        left -= len(output.pending)
        while output.pending:
            select.select((), (output.target,), ())
            output.go_on()
