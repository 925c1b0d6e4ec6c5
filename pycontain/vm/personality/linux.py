"""The system call table of one program, and how the program ended."""

from __future__ import annotations

import errno

from ...errors import KernelError
from ...lean.record import Record
from ..space import BadAddress, MapError
from .files import Files
from .memory import MemoryCalls
from .numbers import BY_MACHINE
from .process import ProcessCalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..deadline import Deadline
    from ..space import Space

    Call = Callable[..., int]


class ProgramEnding(Record):
    """
    How a program ended.

    status  the exit status as a shell shows it: 128 + signal for one that was killed
    signal  the signal that killed it, or 0
    fault   what it did to deserve that, one sentence, or ""
    """

    status: int
    signal: int = 0
    fault: str = ""


class Linux:
    """
    Serves the system calls of one program.

    ending    None while it runs
    unserved  calls that were answered with ENOSYS -> how often
    """

    def __init__(
        self, machine: str, space: Space, files: Files, deadline: Deadline, heap: int,
        set_thread_pointer: Callable[[int], None],
    ) -> None:  # fmt: skip
        self.ending: ProgramEnding | None = None
        self.unserved: dict[str, int] = {}
        process = ProcessCalls(machine, space, deadline, self, set_thread_pointer)
        files.kill = process.raise_signal
        self._files = files
        groups = (files, MemoryCalls(space, files, heap), process)
        served = {name: call for group in groups for name, call in group.calls().items()}
        self._names = BY_MACHINE[machine]
        self._table = {
            number: (name, served[name], _arity(served[name]))
            for number, name in self._names.items()
            if name in served
        }

    def call(self, number: int, *arguments: int) -> tuple[str, int]:
        """
        Serve one call; its name and its result, a negative errno for an error.

        Raises what ends the run itself: Timeout, GuestError for output beyond its limit.
        """
        entry = self._table.get(number)
        window = self._files.window
        if window and (entry is None or entry[0] != "read"):
            window.pause()
        if entry is None:
            return self._unserved(number)
        name, call, arity = entry
        try:
            return name, call(*arguments[:arity])
        except BadAddress:
            return name, -errno.EFAULT
        except (OSError, KernelError, MapError) as error:
            return name, -(error.errno or errno.EIO)

    def _unserved(self, number: int) -> tuple[str, int]:
        name = self._names.get(number, f"call {number & 0xFFFF_FFFF}")
        if name in self.unserved or len(self.unserved) < 1000:
            self.unserved[name] = self.unserved.get(name, 0) + 1
        return name, -errno.ENOSYS

    def end(self, status: int) -> None:
        """The program exits."""
        self.ending = ProgramEnding(status=status & 0xFF)

    def kill(self, signal: int, fault: str = "") -> None:
        """The program is ended by a signal."""
        self.ending = ProgramEnding(status=128 + signal, signal=signal, fault=fault)


def _arity(call: Call) -> int:
    return call.__code__.co_argcount - 1
