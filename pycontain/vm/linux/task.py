"""A program that runs: one process with its memory, files and signals, and its tasks."""

from __future__ import annotations

import errno
import time

from ...errors import KernelError
from ...lean.record import Record
from ..deadline import Bell
from ..space import BadAddress, MapError
from . import signals
from .clock import Clocks
from .ending import Interrupted, ProgramEnding
from .numbers import BY_MACHINE
from .table import TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..cpu import Cpu, Fault
    from ..deadline import Deadline
    from ..space import Space
    from ..view import View
    from .family import Lent
    from .files import Files
    from .pids import Pids
    from .table import Call

_UNSERVED_MAX = 1000  # names kept, of the 2^32 that a program can call


class User(Record):
    """Who a program is, and where."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    hostname: str = "vm"
    domainname: str = "(none)"


class Process:
    """
    What the tasks of a process share.

    heap, brk   where the heap starts, and where it ends
    user        who it is
    actions     what is done at each signal
    memory      bytes of guest physical memory
    limits      resource -> soft and hard limit, where they were changed
    lent        what is given back to the parent after vfork(2)
    forked      whether this monitor was forked by another, and ends with its process
    children    descriptors (pidfd) of the monitors of its children, by process
    reaped      those of children whose process has ended, while their monitors have not
    unserved    calls that were answered with ENOSYS -> how often
    ending      how it ended; None while it runs
    """

    def __init__(
        self, machine: str, space: Space, files: Files, view: View, pids: Pids, deadline: Deadline
    ) -> None:
        self.machine = machine
        self.space = space
        self.files = files
        self.view = view
        self.pids = pids
        self.deadline = deadline
        self.heap = self.brk = 0
        self.user = User()
        self.name = b""  # of the program, as prctl(2) shows it
        self.executable = b"/"
        self.arguments: tuple[bytes, ...] = ()
        self.umask = 0o022
        self.actions = signals.Actions()
        self.timers = signals.Timers()
        self.bell = Bell(deadline.signals)
        self.clocks = Clocks()
        self.began = time.monotonic()
        self.memory = 0
        self.limits: dict[int, tuple[int, int]] = {}
        self.timer_signals: dict[int, int] = {}
        self.lent: Lent | None = None
        self.forked = False
        self.children: dict[int, int] = {}
        self.reaped: list[int] = []
        self.unserved: dict[str, int] = {}
        self.ending: ProgramEnding | None = None
        self.names = BY_MACHINE[machine]
        self.calls: dict[int, Call] = {
            number: TABLE[name] for number, name in self.names.items() if name in TABLE
        }

    def exit(self, status: int) -> None:
        """The program exits."""
        self.ending = self.ending or ProgramEnding(status=status & 0xFF)

    def kill(self, signal: int, fault: str = "") -> None:
        """The program is ended by a signal."""
        ending = ProgramEnding(status=128 + signal, signal=signal, fault=fault)
        self.ending = self.ending or ending


class Task:
    """
    One thread of execution.

    mask      the signals it blocks: bit 0 is signal 1
    stack     its alternate signal stack: address, flags, size
    attention whether a signal may have become deliverable
    jumped    whether a handler has set the registers, so that the call has no result
    """

    def __init__(self, process: Process, cpu: Cpu) -> None:
        self.process = process
        self.cpu = cpu
        self.space = process.space
        self.files = process.files
        self.mask = 0
        self.restored_mask: int | None = None  # after a call that had another, sigsuspend(2)
        self.stack = (0, signals.SS_DISABLE, 0)
        self.jumped = False
        self.attention = False
        self.clear_child_tid = 0

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self.process.pids.own

    def serve(self, number: int, arguments: Sequence[int]) -> tuple[str, int, bool]:
        """
        Serve one call: its name, its result (a negative errno for an error), and whether it can
        begin again after the handler of a signal.

        Raises what ends the run itself: Timeout, and GuestError for output beyond its limit.
        """
        process = self.process
        call = process.calls.get(number)
        window = self.files.window
        if window and number:
            window.pause()
        if call is None:
            return self._unserved(number), -errno.ENOSYS, False
        try:
            return call.name, call.function(self, *call.arguments(arguments)), False
        except Interrupted as interrupted:
            return call.name, -errno.EINTR, interrupted.restart
        except BadAddress:
            return call.name, -errno.EFAULT, False
        except (OverflowError, ValueError):  # a number that no call of the host takes
            return call.name, -errno.EINVAL, False
        except (OSError, KernelError, MapError) as error:
            return call.name, -(error.errno or errno.EIO), False

    def _unserved(self, number: int) -> str:
        process = self.process
        name = process.names.get(number, f"call {number & 0xFFFF_FFFF}")
        if name not in process.unserved and len(process.unserved) >= _UNSERVED_MAX:
            name = "other calls"
        process.unserved[name] = process.unserved.get(name, 0) + 1
        return name

    def fault(self, fault: Fault) -> None:
        """The program has caused an exception: its handler runs, or it ends."""
        signals.force(self, fault)
