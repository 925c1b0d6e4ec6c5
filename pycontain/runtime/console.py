"""Terminals: the master is sent to a console socket, or served in the foreground."""

from __future__ import annotations

from ..errors import UsageError
from ..kernel.descriptors import close_owned
from ..lean import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..spec.records import Process

_REQUESTS = {  # what requested the terminal, and how not to
    False: ("process.terminal", "set process.terminal to false"),
    True: ("--tty", "leave out --tty"),
}


def check(process: Process | None, socket: str, *, detached: bool, tty: bool = False) -> None:
    """
    Raises UsageError if terminal, console socket, detachment and our streams contradict each other.

    tty: whether the terminal was requested by --tty, not by the configuration.
    """
    terminal = process is not None and process.terminal
    if socket and not (terminal and detached):
        raise UsageError(
            "is only for a detached container with a terminal",
            at="--console-socket",
            value=socket,
            remedy="set process.terminal to true, and detach",
        )
    if not terminal or socket:
        return
    at, without = _REQUESTS[tty]
    if detached:
        raise UsageError(
            "requests a terminal, but nothing would receive it",
            at=at,
            remedy=f"give --console-socket, or {without}",
        )
    if _terminal() < 0:  # a program that waits for input would wait forever
        raise UsageError(
            "requests a terminal, but neither standard input nor standard output is one",
            at=at,
            remedy=f"use a terminal, give --detach and --console-socket, or {without}",
        )


def window(*, detached: bool) -> tuple[int, int]:
    """Rows and columns of the caller's terminal; 0, 0 if it has none or it is not served."""
    if detached or (fd := _terminal()) < 0:
        return 0, 0
    from ..kernel import tty

    return tty.size(fd)


def is_plain(*, detached: bool) -> bool:
    """
    Whether the container's terminal leaves newlines as they are.

    So it is, as with runc, if the output goes to a file or a pipe, or to a terminal that adds the
    carriage returns itself, because it is not in raw mode.
    """
    return not detached and not (os.isatty(0) and os.isatty(1))


def _terminal() -> int:
    """The standard input or output that is a terminal, or -1."""
    return next((fd for fd in (0, 1) if os.isatty(fd)), -1)


class Foreground:
    """The caller's terminal, in raw mode while it is connected to the container's."""

    # The character that ends input (VEOF, termios(3)): the first may only end an unfinished line.
    end_of_input = b"\x04\x04"

    def __init__(self, master: int) -> None:
        import termios

        self.master = master
        self.termios = termios
        self.saved = termios.tcgetattr(0) if os.isatty(0) else None
        self.own = _terminal()

    def __enter__(self) -> Foreground:
        if self.saved is not None:
            import tty as stdlib_tty

            stdlib_tty.setraw(0)
        self.resize()
        return self

    def __exit__(self, *_: object) -> None:
        if self.saved is not None:
            self.termios.tcsetattr(0, self.termios.TCSADRAIN, self.saved)
        close_owned(self, "master")

    def resize(self) -> None:
        """Give the container's terminal the size of the caller's."""
        from ..kernel import tty

        size = tty.size(self.own)
        if any(size):  # zeros: it does not know
            tty.set_size(self.master, *size)
