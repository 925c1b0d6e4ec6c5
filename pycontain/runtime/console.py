"""Terminals: the master is sent to a console socket, or served in the foreground."""

from __future__ import annotations

from ..errors import UsageError
from ..kernel.closing import close_owned
from ..lean import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..spec.records import Process


def check(process: Process | None, socket: str, *, detached: bool) -> None:
    """Raises UsageError where terminal, console socket and detachment contradict each other."""
    terminal = process is not None and process.terminal
    if terminal and detached and not socket:
        raise UsageError(
            "is true, but a detached container with a terminal needs --console-socket",
            at="process.terminal",
            remedy="give --console-socket, or run in the foreground",
        )
    if socket and not (terminal and detached):
        raise UsageError(
            "is only for a detached container with a terminal",
            at="--console-socket",
            value=socket,
            remedy="set process.terminal to true, and detach",
        )


def window(*, detached: bool) -> tuple[int, int]:
    """Rows and columns of the caller's terminal; 0, 0 if it has none or it is not served."""
    if detached or not os.isatty(0):
        return 0, 0
    from ..kernel import tty

    return tty.size(0)


def is_plain(*, detached: bool) -> bool:
    """Whether the output of a terminal served here goes to a file or a pipe, as with runc."""
    return not detached and not os.isatty(1)


class Foreground:
    """The caller's terminal, in raw mode while it is connected to the container's."""

    def __init__(self, master: int) -> None:
        import termios

        self.master = master
        self.termios = termios
        self.saved = termios.tcgetattr(0) if os.isatty(0) else None

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
        if self.saved is not None:
            from ..kernel import tty

            tty.set_size(self.master, *tty.size(0))
