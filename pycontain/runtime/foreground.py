"""Waiting in the foreground until a container ends: signals and terminal are forwarded."""

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
    from ..launch.child import Child

# Not forwarded: about our own children, or sent by the kernel to this process alone.
_OWN = frozenset((_signal.SIGCHLD, _signal.SIGPIPE, _signal.SIGURG))
_STDOUT = 1
_PIECE = 4096  # bytes that a writable pipe takes without blocking (PIPE_BUF, pipe(7))
_BUFFERED = 1 << 17  # bytes: more than a terminal buffers (64 KiB, and 4 in N_TTY)
_SIGINFO = 128  # bytes of struct signalfd_siginfo, which begins with the signal's number
_PEEK = os.WEXITED | os.WNOHANG | os.WNOWAIT


def stay(child: Child, master: int) -> int:
    """
    Wait for the end of a child, forwarding every signal; all must be blocked.

    Serves the terminal with this master, unless it is -1. Returns the exit status, or 128 plus the
    number of the signal that killed it, as a shell would.
    """
    signals = calls.signal_descriptor()
    if master < 0:
        ended = False
        while not ended:
            _pass_signal(signals, child, None)
            ended = os.waitid(os.P_PIDFD, child.pidfd, _PEEK) is not None
    else:
        with Foreground(master) as terminal:
            _serve(terminal, signals, child)
    os.close(signals)
    status = exit_status(os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED))
    child.close_pidfd()
    return status


def _serve(terminal: Foreground, signals: int, child: Child) -> None:
    """
    Copy between the two terminals until the child has ended.

    Never blocks on a program that does not read: its input is then not read either.
    """
    import select

    os.set_blocking(terminal.master, False)
    to_program = _Copy(0, terminal.master, at_end=terminal.end_of_input)
    copies = to_program, _Copy(terminal.master, _STDOUT)
    ready: set[int] = set()
    while child.pidfd not in ready:
        events = {signals: select.POLLIN, child.pidfd: select.POLLIN}
        active = [copy for copy in copies if not copy.ended]
        for copy in active:  # both may wait for the master
            condition = select.POLLOUT if copy.pending else select.POLLIN
            events[copy.waits_for] = events.get(copy.waits_for, 0) | condition
        watch = select.poll()
        for fd, condition in events.items():
            watch.register(fd, condition)
        ready = {fd for fd, _ in watch.poll()}
        if signals in ready:
            _pass_signal(signals, child, terminal)
        for copy in active:
            if copy.waits_for in ready:
                copy.advance()
    _drain(copies[1])


def exit_status(ended: os.waitid_result | None) -> int:
    """The exit status that a shell would report."""
    assert ended is not None
    return ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status


def _pass_signal(signals: int, child: Child, terminal: Foreground | None) -> None:
    """Read the next signal and handle it."""
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
        if error.errno != errno.ESRCH:  # it has just exited
            raise


def _reap_orphans(pid: int) -> None:
    """Reap orphans of a container without a pid namespace: this process is their subreaper."""
    while (ended := os.waitid(os.P_ALL, 0, _PEEK)) is not None and ended.si_pid != pid:
        os.waitid(os.P_PID, ended.si_pid, os.WEXITED)


class _Copy:
    """
    One direction of copying between the two terminals.

    at_end   what to write when the source has ended
    pending  what was read and not written yet; until it is, no more is read
    ended    the source has ended, or the target is closed
    """

    __slots__ = ("at_end", "ended", "pending", "source", "target")

    def __init__(self, source: int, target: int, at_end: bytes = b"") -> None:
        self.source = source
        self.target = target
        self.at_end = at_end
        self.pending = b""
        self.ended = False

    @property
    def waits_for(self) -> int:
        """The descriptor that must become ready before it can continue."""
        return self.target if self.pending else self.source

    def advance(self) -> None:
        """Write what is pending, or else read; the master of a terminal is non-blocking."""
        try:
            if self.pending:
                self.pending = self.pending[os.write(self.target, self.pending) :]
            else:
                self.pending = os.read(self.source, _PIECE)
                if not self.pending:
                    self.ended = not self.at_end
                    self.pending, self.at_end = self.at_end, b""
        except BlockingIOError:
            pass
        except OSError as error:
            # the other end of a terminal is closed; if it is the caller's terminal, give up
            if error.errno != errno.EIO or (self.pending and self.target == _STDOUT):
                raise
            self.ended = True


def _drain(output: _Copy) -> None:
    """Copy the remaining output, up to a limit: processes that are left may write without end."""
    import select

    left = _BUFFERED
    while left > 0:
        if not output.pending:
            output.advance()
        if not output.pending:  # no more output
            return
        left -= len(output.pending)
        while output.pending:
            select.select((), (output.target,), ())
            output.advance()
