"""Signals of a program: what each does, which are pending, and their delivery. signal(7)."""

from __future__ import annotations

import os
import select
import time

from ...lean.record import Record
from ..deadline import Alarm
from ..space import BadAddress
from . import frame, pids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..cpu import Fault
    from .pids import Pids
    from .task import Process, Task

SIGKILL, SIGSEGV, SIGPIPE, SIGALRM, SIGCHLD, SIGCONT, SIGSTOP = 9, 11, 13, 14, 17, 18, 19
STOPS = {19, 20, 21, 22}  # SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU
NEVER_CAUGHT = {SIGKILL, SIGSTOP}
HARMLESS = {17, 18, 23, 28}  # SIGCHLD, SIGCONT, SIGURG, SIGWINCH: ignored by default
DEFAULT, IGNORE = 0, 1
SA_NOCLDSTOP, SA_NOCLDWAIT, SA_SIGINFO, SA_ONSTACK = 1, 2, 4, 0x0800_0000
SA_RESTART, SA_NODEFER, SA_RESETHAND = 0x1000_0000, 0x4000_0000, 0x8000_0000
SS_ONSTACK, SS_DISABLE = 1, 2
UNBLOCKABLE = 1 << SIGKILL - 1 | 1 << SIGSTOP - 1
SI_KERNEL, SI_TKILL = 0x80, -6


class Action(Record):
    """The kernel's struct sigaction."""

    handler: int = DEFAULT
    flags: int = 0
    restorer: int = 0
    mask: int = 0


_NOTHING = Action()


class Actions:
    """
    What a process does at each signal.

    is_init  the first process of a pid namespace is ended by no signal that it does not handle
    """

    def __init__(self) -> None:
        self.is_init = False
        self._of: dict[int, Action] = {}

    def get(self, signal: int) -> Action:
        """What is done at a signal."""
        return self._of.get(signal, _NOTHING)

    def set(self, signal: int, action: Action) -> None:
        """Change it."""
        self._of[signal] = action

    def ignores(self, signal: int) -> bool:
        """Whether a signal has no effect at all."""
        handler = self.get(signal).handler
        return handler == IGNORE or (handler == DEFAULT and (self.is_init or signal in HARMLESS))

    def reset(self) -> None:
        """What execve(2) leaves: signals that are ignored."""
        self._of = {s: Action(handler=IGNORE) for s, a in self._of.items() if a.handler == IGNORE}


class Timers:
    """The timers of a process that send signals: setitimer(2), timer_create(2)."""

    def __init__(self) -> None:
        self._alarm = Alarm(anyone=True)
        self.running: dict[int, tuple[float, float, int]] = {}  # when, interval, signal

    def set(self, timer: int, seconds: float, interval: float, signal: int) -> None:
        """Start a timer, or stop it with 0 seconds."""
        self.running.pop(timer, None)
        if seconds:
            self.running[timer] = time.monotonic() + seconds, interval, signal
        self._arm()

    def _arm(self) -> None:
        left = self.left()
        self._alarm.set(0 if left is None else max(left, 1e-6))

    def left(self) -> float | None:
        """Seconds until the next one expires."""
        if not self.running:
            return None
        return max(0.0, min(when for when, _, _ in self.running.values()) - time.monotonic())

    def left_of(self, timer: int) -> tuple[float, float]:
        """Seconds until a timer expires, 0 if it does not run, and its interval."""
        when, interval, _ = self.running.get(timer, (0.0, 0.0, 0))
        return (max(1e-6, when - time.monotonic()) if when else 0.0), interval

    def check(self, table: Pids) -> None:
        """Make the signals of those that have expired pending."""
        if not self.running:
            return
        now = time.monotonic()
        for timer, (when, interval, signal) in list(self.running.items()):
            if when <= now:
                if interval:
                    missed = int((now - when) / interval)
                    self.running[timer] = when + interval * (missed + 1), interval, signal
                else:
                    del self.running[timer]
                table.post(table.own, signal, SI_KERNEL)
        self._arm()

    def again_soon(self) -> None:
        """Have STOP sent in a moment: the processor was where no signal is delivered."""
        self._alarm.set(20e-6)

    def close(self) -> None:
        """Delete the kernel's timer."""
        self._alarm.close()


def wanted(task: Task) -> int:
    """The signal that has to be delivered next, or 0; those that are ignored are dropped."""
    process = task.process
    for signal in sorted(task.directed):
        if not task.mask >> signal - 1 & 1:
            if not process.actions.ignores(signal):
                return signal
            del task.directed[signal]
    pending = process.pids.pending()
    signal = pending.find(1)
    while signal > 0:
        if not task.mask >> signal - 1 & 1 or signal in NEVER_CAUGHT:
            if not process.actions.ignores(signal):
                return signal
            process.pids.take(signal)
        signal = pending.find(1, signal + 1)
    return 0


def receive(process: Process) -> None:
    """
    Consume STOP, and make the signals that this monitor is sent from outside the program's.

    Those of the terminal are for the program's processes in the foreground alone: for the host, all
    monitors are.
    """
    table = process.pids
    for info in process.deadline.received():
        foreground = table.get(0, pids.GROUP) in (0, table.get(table.own, pids.GROUP))
        about_monitor = info.si_signo == SIGCHLD and info.si_code > 0
        if info.si_pid == os.getpid() or about_monitor:  # such as SIGPIPE, which is emulated
            continue
        if info.si_code != SI_KERNEL or foreground:
            table.post(table.own, info.si_signo, 0, 0)


def take(task: Task, signal: int) -> tuple[int, int]:
    """A signal is being delivered to a task; its si_code and sender."""
    return task.directed.pop(signal, None) or task.process.pids.take(signal)


def pending(task: Task) -> set[int]:
    """The signals that are pending for a task, blocked or not."""
    flags = task.process.pids.pending()
    return {*task.directed, *(number for number, is_set in enumerate(flags) if is_set)}


def send(task: Task, signal: int, code: int = 0) -> None:
    """Make a signal pending for the process of a task, whose first thread takes it if it can."""
    process = task.process
    process.pids.post(task.pid, signal, code)
    first = next(iter(process.tasks.values()))
    if first is not task and wanted(first):
        first.kick()
    else:
        task.attention = True
        process.pass_on()


def direct(task: Task, target: Task, signal: int, code: int) -> None:
    """Make a signal pending for one thread of the process of a task."""
    target.directed[signal] = code, task.pid
    if target is task:
        task.attention = True
    else:
        target.kick()


def deliver(task: Task, number: int, interrupted: int | None) -> None:
    """
    Deliver what is pending.

    interrupted  after a call that a signal interrupted: whether SA_RESTART makes it begin again;
                 without a handler it always does. Otherwise None.
    """
    task.attention = False
    process = task.process
    handled = False
    while process.ending is None and (signal := wanted(task)):
        code, sender = take(task, signal)
        action = process.actions.get(signal)
        if action.handler == DEFAULT:
            if signal in STOPS:
                _stop(task, signal)
            else:
                process.kill(signal)
            continue
        if interrupted is not None and not handled and interrupted and action.flags & SA_RESTART:
            _begin_again(task, number)
        handled = True
        status = process.pids.get(sender, pids.STATUS) if signal == SIGCHLD else 0
        _handle(task, signal, frame.information(signal, code, sender, status))
    if process.ending is None and interrupted is not None and not handled:
        _begin_again(task, number)
    if task.restored_mask is not None and not handled:
        task.mask, task.restored_mask = task.restored_mask, None


def _begin_again(task: Task, number: int) -> None:
    """Put the processor before its system call."""
    registers = task.cpu.registers()
    registers["rip"] -= 2
    registers["rax"] = number
    task.cpu.set_registers(registers)


def _handle(task: Task, signal: int, information: bytes, address: int = 0) -> None:
    """Make the program's handler run next."""
    process = task.process
    action = process.actions.get(signal)
    if process.machine != "x86_64":
        process.kill(signal)  # no frame of another architecture is made
        return
    saved = task.mask if task.restored_mask is None else task.restored_mask
    task.restored_mask = None
    try:
        frame.push(task, action, signal, information, saved, address)
    except BadAddress:
        process.kill(SIGSEGV, f"the program has no stack for the handler of signal {signal}")
        return
    own = 0 if action.flags & SA_NODEFER else 1 << signal - 1
    task.mask = (task.mask | action.mask | own) & ~UNBLOCKABLE
    if action.flags & SA_RESETHAND:
        process.actions.set(signal, _NOTHING)


def force(task: Task, fault: Fault) -> None:
    """A fault's signal: it can neither be ignored nor wait."""
    action = task.process.actions.get(fault.signal)
    blocked = task.mask >> fault.signal - 1 & 1
    if action.handler in (DEFAULT, IGNORE) or blocked:
        task.process.kill(fault.signal, fault.sentence())
        return
    _handle(task, fault.signal, frame.fault_information(fault), fault.address)


def _stop(task: Task, signal: int) -> None:
    """Stop until SIGCONT or SIGKILL comes; other threads cannot go on either, without the lock."""
    process = task.process
    for other in process.tasks.values():
        other.kick()
    table, own = process.pids, task.pid
    _report(task, pids.STOPPED, signal << 8 | 0x7F)
    poll = select.poll()
    poll.register(process.bell.open(), select.POLLIN)
    while not table.pending()[SIGCONT] and not table.pending()[SIGKILL]:
        left = process.deadline.left()
        poll.poll(None if left is None else left * 1000)
        receive(process)
        process.deadline.check()
    _report(task, pids.LIVE, 0xFFFF)
    assert table.get(own, pids.STATE) == pids.LIVE


def _report(task: Task, state: int, status: int) -> None:
    """Tell the parent that this process has stopped or goes on."""
    table, own = task.process.pids, task.pid
    table.set(own, pids.STATUS, status)
    table.set(own, pids.STATE, state)
    table.set(own, pids.CHANGED, 1)
    parent = table.get(own, pids.PARENT)
    if parent:
        table.post(parent, SIGCHLD, 5 if state == pids.STOPPED else 6)
