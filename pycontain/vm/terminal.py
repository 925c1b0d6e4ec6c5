"""The user's terminal as the other end of a guest's serial line."""

from __future__ import annotations

import os
import select
import termios
import threading
import tty

from ..kernel.descriptors import close_owned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

QUIT = 0x1D  # Ctrl-], as in telnet


class Terminal:
    """
    Puts a terminal into raw mode and passes what is typed to receive(), until Ctrl-] calls quit().

    A context manager; leaving it restores the terminal and ends the reader. A descriptor that is
    not a terminal (a pipe, a file) is read to its end, too.
    """

    def __init__(
        self, receive: Callable[[bytes], None], quit: Callable[[], None], fd: int = 0
    ) -> None:
        self._receive = receive
        self._quit = quit
        self._fd = fd
        self._saved: list[Any] | None = None
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._reader = threading.Thread(target=self._read, name="terminal")

    def __enter__(self) -> Self:
        if os.isatty(self._fd):
            self._saved = termios.tcgetattr(self._fd)
            tty.setraw(self._fd, termios.TCSADRAIN)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.eventfd_write(self._wake, 1)
        self._reader.join()
        close_owned(self, "_wake")
        if self._saved:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)

    def _read(self) -> None:
        poll = select.poll()
        for fd in (self._fd, self._wake):
            poll.register(fd, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if self._wake in ready:
                return
            typed = os.read(self._fd, 4096)
            before, quit_key, _ = typed.partition(bytes((QUIT,)))
            if before:
                self._receive(before)
            if quit_key and self._saved:  # in a pipe it is an ordinary byte
                self._quit()
            if quit_key or not typed:
                return
