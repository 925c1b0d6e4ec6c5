"""How a program in the VM ends."""

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


class Exit:
    """What ends a program; ending is None while it runs."""

    def __init__(self) -> None:
        self.ending: ProgramEnding | None = None

    def exit(self, status: int) -> None:
        """The program exits."""
        self.ending = ProgramEnding(status=status & 0xFF)

    def kill(self, signal: int, fault: str = "") -> None:
        """The program is ended by a signal."""
        self.ending = ProgramEnding(status=128 + signal, signal=signal, fault=fault)
