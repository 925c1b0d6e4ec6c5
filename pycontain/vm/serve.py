"""The loop of a program: each time the processor leaves it, its task is served here."""

from __future__ import annotations

import errno

from .linux import family, signals
from .trace import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .cpu import Fault
    from .linux.task import Task
    from .strace import Strace
    from .trace import Stats


class Serve:
    """Serves one task: what a processor calls (cpu.Handler)."""

    def __init__(self, task: Task, stats: Stats, trace: Strace | None) -> None:
        self._task = task
        self._stats = stats
        self._trace = trace
        self._left = clock()

    def run(self) -> None:
        """
        Run the task until its process has ended; a forked process never returns.

        Raises GuestError when the virtual machine fails, Timeout at the deadline.
        """
        process = self._task.process
        process.pids.watch()
        try:
            self._task.cpu.run(self)
        except BaseException as error:
            self.failed(error)
            raise

    def failed(self, error: BaseException) -> None:
        """The monitor of a forked process ends here, since nobody is there to be told."""
        process = self._task.process
        if process.forked:
            process.kill(signals.SIGKILL, str(error))
            family.leave(process)

    def call(self) -> bool:
        """A system call."""
        entered = clock()
        task = self._task
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
        self._task.fault(fault)
        return self._done("fault", entered)

    def kicked(self) -> bool:
        """STOP: the deadline, a timer, or a signal from another process."""
        entered = clock()
        task = self._task
        process = task.process
        signals.receive(process)
        process.deadline.check()
        process.timers.check(process.pids)
        if signals.wanted(task):
            if task.cpu.in_program():
                signals.deliver(task, 0, None)
            else:
                process.timers.again_soon()
        return self._done("kick", entered)

    def _done(self, name: str, entered: float) -> bool:
        now = clock()
        self._stats.add(name, entered - self._left, now - entered)
        self._left = now
        process = self._task.process
        if process.ending and process.forked:
            family.leave(process)
        return process.ending is None
