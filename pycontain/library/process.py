"""A program's process, which a worker has created for it."""

from __future__ import annotations

import os
import resource  # noqa: F401 -- os.wait4 imports it, when a thread may just be forking
import select
import signal as signals
import threading

from ..errors import StateError
from ..kernel.descriptors import close_owned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..state.record import State


class Process:
    """
    A child of ours that a worker created.

    pidfd     refers to it
    terminal  the master of its terminal, -1 if it has none; whoever serves it closes it
    state     of the container whose first process it is; None for exec
    cpu_time  seconds that it and what it has waited for have used, once it was reaped
    """

    def __init__(
        self, pid: int, fds: list[int], times: tuple[tuple[str, str, int], ...], state: State | None
    ) -> None:
        self.pid = pid
        self.pidfd, self.terminal = fds[0], fds[1] if len(fds) > 1 else -1
        self.state = state
        self.cpu_time: float | None = None
        self.times = times
        self._owner = os.getpid()
        self._ended: os.waitid_result | None = None
        self._lock = threading.Lock()

    def wait(self, timeout: float | None) -> bool:
        """Whether it has ended within this time (seconds)."""
        watch = select.poll()
        watch.register(self.pidfd, select.POLLIN)
        return bool(watch.poll(None if timeout is None else timeout * 1000))

    def status(self) -> tuple[int, int]:
        """
        (a shell's exit status, the signal that killed it or 0), of a process that has ended.

        Raises StateError if the program has reaped it: it ignores SIGCHLD or waits for all.
        """
        with self._lock:
            if self._ended is None:
                self._ended = self._reaped()
        number = self._ended.si_status
        return (number, 0) if self._ended.si_code == os.CLD_EXITED else (128 + number, number)

    def _reaped(self) -> os.waitid_result:
        try:
            ended = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOWAIT)
            usage = os.wait4(self.pid, 0)[2]  # waitid(2) has it, too, but not in Python
        except ChildProcessError:
            raise StateError(
                "was reaped by this program, so that its status is lost",
                at="process",
                value=str(self.pid),
                remedy="wait for single children, and do not ignore SIGCHLD",
            ) from None
        self.cpu_time = usage.ru_utime + usage.ru_stime
        assert ended is not None
        return ended

    def kill(self) -> None:
        """Kill it, if it runs; in a forked child of the program, do nothing."""
        try:
            if self._ended is None and self._owner == os.getpid():
                signals.pidfd_send_signal(self.pidfd, signals.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended and was reaped by the program

    def end(self) -> None:
        """Kill it, reap it, and close its pidfd."""
        self.kill()
        try:
            self.status()
        except StateError:
            pass  # it is gone in any case
        finally:
            close_owned(self, "pidfd")
