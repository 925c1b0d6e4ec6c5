"""A program that runs: one process with its memory, files and signals, and its tasks."""

from __future__ import annotations

import _thread
import errno
import time

from ...errors import KernelError
from ...lean.record import Record
from ..deadline import Bell, kick
from ..space import BadAddress, MapError
from . import signals
from .clock import Clocks
from .ending import Interrupted, ProgramEnding
from .numbers import BY_MACHINE
from .table import TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..cpu import Cpu, Fault
    from ..deadline import Deadline
    from ..space import Space
    from ..view import View
    from .family import Lent
    from .files import Files
    from .futex import Waiter
    from .pids import Pids
    from .table import Call

_CLOCK_PERIOD = 1.0  # seconds: after that, the time of day may have been set
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
    cpus        how many processors its threads may use
    quick       whether calls may be answered without the monitor, which shows none of them
    clock_due   when to look at the time of day again, time.perf_counter()
    network     whether it may have sockets that are not pairs
    limits      resource -> soft and hard limit, where they were changed
    lent        what is given back to the parent after vfork(2)
    forked      whether this monitor was forked by another, and ends with its process
    children    descriptors (pidfd) of the monitors of its children, by process
    reaped      those of children whose process has ended, while their monitors have not
    unserved    calls that were answered with ENOSYS -> how often
    ending      how it ended; None while it runs
    error       why the monitor could not go on
    tasks       by their numbers
    lock        held by the thread that serves a task, except while that waits
    over        released when the last task has left
    start       runs a new task in a thread
    waiters     at a futex, by the address of its word in this process
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
        self.cpus = 1
        self.network = False
        self.quick = False
        self.clock_due = 0.0
        self.tasks: dict[int, Task] = {}
        self.lock = _thread.allocate_lock()
        self.over = _thread.allocate_lock()
        self.over.acquire()
        self.start: Callable[[Task], None]
        self.waiters: dict[int, list[Waiter]] = {}
        self.error: BaseException | None = None
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

    def show_self(self, cpu: Cpu) -> None:
        """What the program can find out without a call."""
        cpu.show_clocks(self.clocks.zero)
        self.clock_due = time.perf_counter() + _CLOCK_PERIOD
        if self.quick:
            cpu.show_numbers(self.pids.own, self.pids.own if len(self.tasks) == 1 else 0)

    def notice(self) -> None:
        """What STOP can mean. Raises Timeout at the deadline."""
        self.deadline.check()
        self.timers.check(self.pids)
        self.pass_on()

    def pass_on(self) -> None:
        """Stop the tasks that can take a signal which is pending."""
        if len(self.tasks) > 1:
            for task in self.tasks.values():
                if signals.wanted(task):
                    task.kick()

    def kill(self, signal: int, fault: str = "") -> None:
        """The program is ended by a signal."""
        ending = ProgramEnding(status=128 + signal, signal=signal, fault=fault)
        self.ending = self.ending or ending


class Task:
    """
    One thread of execution.

    tid       its number; that of the first task is its process's
    thread    the thread of this process that serves it
    ended     whether it has to leave
    directed  signals that are pending for it alone: si_code and sender
    robust    its list of mutexes, set_robust_list(2)
    mask      the signals it blocks: bit 0 is signal 1
    stack     its alternate signal stack: address, flags, size
    attention whether a signal may have become deliverable
    jumped    whether a handler has set the registers, so that the call has no result
    """

    def __init__(self, process: Process, cpu: Cpu, tid: int) -> None:
        self.process = process
        self.cpu = cpu
        self.tid = tid
        self.thread = 0
        self.ended = False
        self.directed: dict[int, tuple[int, int]] = {}
        self.robust = 0
        self.retried = (0, 0)  # the address of a fault, and how often it was tried again
        process.tasks[tid] = self
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

    def kick(self) -> None:
        """Have its thread look at what is pending."""
        if self.thread and self.thread != _thread.get_native_id():
            kick(self.thread)

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
