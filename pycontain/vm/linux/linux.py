"""The system call table of one program, and how the program ended."""

from __future__ import annotations

import errno

from ...errors import KernelError
from ..space import BadAddress, MapError
from .ending import Exit
from .files import Files
from .memory import MemoryCalls
from .numbers import BY_MACHINE
from .process import ProcessCalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..deadline import Deadline
    from ..space import Space
    from .ending import ProgramEnding

    Call = Callable[..., int]


_UNSERVED_MAX = 1000  # names kept, of the 2^32 that a program can call


class Linux:
    """
    Serves the system calls of one program.

    unserved  calls that were answered with ENOSYS -> how often
    """

    def __init__(
        self, machine: str, space: Space, files: Files, deadline: Deadline, heap: int,
        set_thread_pointer: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._exit = Exit()
        self.unserved: dict[str, int] = {}
        process = ProcessCalls(machine, space, deadline, self._exit, set_thread_pointer)
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
        Serve one call; returns its name and its result, a negative errno for an error.

        Raises what ends the run itself: Timeout, and GuestError for output beyond its limit.
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
        if name not in self.unserved and len(self.unserved) >= _UNSERVED_MAX:
            name = "other calls"
        self.unserved[name] = self.unserved.get(name, 0) + 1
        return name, -errno.ENOSYS

    @property
    def ending(self) -> ProgramEnding | None:
        """How the program ended; None while it runs."""
        return self._exit.ending

    def kill(self, signal: int, fault: str = "") -> None:
        """The program is ended by a signal."""
        self._exit.kill(signal, fault)


def _arity(call: Call) -> int:
    return call.__code__.co_argcount - 1
