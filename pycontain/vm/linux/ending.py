"""How a program in the VM ends, and what stops one of its system calls."""

from __future__ import annotations

from ...lean.record import Record


class ProgramEnding(Record):
    """
    How a program ended.

    status  the exit status as a shell shows it: 128 + signal if it was killed
    signal  the signal that killed it, or 0
    fault   what it did to cause that, one sentence, or ""
    """

    status: int
    signal: int = 0
    fault: str = ""

    def wait_status(self) -> int:
        """As wait(2) shows it."""
        return self.signal if self.signal else self.status << 8


class Interrupted(Exception):
    """
    A signal has to be delivered before this call can go on.

    restart  whether SA_RESTART makes it begin again, signal(7)
    """

    def __init__(self, *, restart: bool = True) -> None:
        super().__init__()
        self.restart = restart
