"""The loop of a task: each time the processor leaves the program, its task is served here."""

from __future__ import annotations

import _thread
import errno

from .linux import family, signals, threads
from .strace import Strace
from .trace import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .cpu import Fault
    from .linux.task import Task
    from .trace import Stats

_STACK = 1 << 20  # bytes, of each thread
_PATIENCE = 5.0  # seconds for other threads to stop


class Serve:
    """
    Serves one task: what a processor calls (cpu.Handler).

    One task is served at a time; while a call waits, the others are.
    """

    def __init__(self, task: Task, stats: Stats, trace: Callable[[str], object] | None) -> None:
        self._task = task
        self._lock = task.process.lock
        self._stats = stats
        self._trace_to = trace
        self._trace = Strace(trace) if trace else None
        self._left = clock()
        task.process.start = self._start

    def run(self) -> None:
        """
        Run the task until its process has ended; a forked process never returns.

        Raises GuestError when the virtual machine fails, Timeout at the deadline.
        """
        process = self._task.process
        self._run()
        if not process.over.acquire(timeout=_limit(process.deadline.left())):
            try:
                process.deadline.check()
            except BaseException as error:
                self.failed(error)
            process.over.acquire(timeout=_PATIENCE)
        if process.error:
            raise process.error

    def _start(self, task: Task) -> None:
        """Run a new task in a thread. Raises RuntimeError when the host has none."""
        _thread.stack_size(_STACK)
        served = Serve(task, self._stats, self._trace_to)
        _thread.start_new_thread(served._run, ())

    def _run(self) -> None:
        task = self._task
        with self._lock:
            task.thread = _thread.get_native_id()
            if not self._go_on():
                return
        try:
            task.cpu.run(self)
        except BaseException as error:
            self.failed(error)

    def failed(self, error: BaseException) -> None:
        """The process cannot go on; the monitor of a forked one ends here."""
        process = self._task.process
        with self._lock:
            process.error = process.error or error
            process.kill(signals.SIGKILL, str(error))
            self._go_on()

    def call(self) -> bool:
        """A system call."""
        entered = clock()
        with self._lock:
            task = self._task
            if task.ended or task.process.ending:
                return self._go_on()
            cpu = task.cpu
            number, *arguments = cpu.call()
            if self._trace:
                self._trace.begin(task, number, arguments)
            name, result, restarts = task.serve(number, arguments)
            if self._trace:
                self._trace.end(task, result)
            if task.jumped:
                task.jumped = False
            else:
                cpu.answer(result)
            interrupted = restarts if result == -errno.EINTR else None
            if task.attention or interrupted is not None:
                signals.deliver(task, number, interrupted)
            return self._done(name, entered)

    def fault(self, fault: Fault) -> bool:
        """An exception."""
        entered = clock()
        with self._lock:
            if threads.is_over(self._task, fault):
                self._task.cpu.set_registers(self._task.cpu.registers())
            else:
                self._task.fault(fault)
            return self._done("fault", entered)

    def kicked(self) -> bool:
        """STOP: the deadline, a timer, another task, or a signal from another process."""
        entered = clock()
        with self._lock:
            task = self._task
            process = task.process
            signals.receive(process)
            process.notice()
            if signals.wanted(task):
                if task.cpu.in_program():
                    signals.deliver(task, 0, None)
                elif len(process.tasks) == 1:
                    process.timers.again_soon()
                else:
                    task.attention = True  # its call comes next
            return self._done("kick", entered)

    def _done(self, name: str, entered: float) -> bool:
        now = clock()
        self._stats.add(name, entered - self._left, now - entered)
        self._left = now
        process = self._task.process
        if now > process.clock_due:
            process.show_self(self._task.cpu)
        return self._go_on()

    def _go_on(self) -> bool:
        """Whether the task does; if not, it is no more. The lock is held."""
        task = self._task
        process = task.process
        if process.ending is None and not task.ended:
            return True
        if task.tid in process.tasks:
            threads.leave(task)
            if not process.tasks:
                if process.forked:
                    family.leave(process)
                process.over.release()
        return False


def _limit(seconds: float | None) -> float:
    return -1 if seconds is None else seconds
