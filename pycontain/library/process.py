"""A program's process, which a worker has created for it."""

from __future__ import annotations

import fcntl
import os
import resource  # noqa: F401 -- os.wait4 imports it, when a thread may just be forking
import select
import signal as signals
import struct
import threading

from ..errors import StateError
from ..kernel.descriptors import close_owned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..state.record import State

# include/uapi/linux/pidfd.h: the request, and the mask for the exit code, which it keeps
_GET_INFO, _INFO_EXIT = 0xC040FF0B, 1 << 3
_INFO = struct.Struct("Q52xi")


class Process:
    """
    A child of ours that a worker created.

    pidfd     refers to it
    terminal  the master of its terminal, -1 if it has none; whoever serves it closes it
    state     of the container whose first process it is; None for exec
    cpu_time  seconds that it and its reaped children have used; None until it is reaped
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
        self._ended: int | None = None
        self._lock = threading.Lock()

    def wait(self, timeout: float | None) -> bool:
        """Whether it has ended within this time (seconds)."""
        watch = select.poll()
        watch.register(self.pidfd, select.POLLIN)
        return bool(watch.poll(None if timeout is None else timeout * 1000))

    def status(self) -> tuple[int, int]:
        """
        (a shell's exit status, the signal that killed it or 0), of a process that has ended.

        A program that ignores SIGCHLD, or waits for all children, may have reaped it. Raises
        StateError in that case if the kernel is older than Linux 6.15.
        """
        with self._lock:
            if self._ended is None:
                self._ended = os.waitstatus_to_exitcode(self._reaped())
        number = self._ended
        return (number, 0) if number >= 0 else (128 - number, -number)

    def _reaped(self) -> int:
        """The wait status, which the kernel keeps as long as the pidfd is open."""
        try:
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOWAIT)
            _, status, usage = os.wait4(self.pid, 0)  # waitid(2) has both, too, but not in Python
        except ChildProcessError:
            return self._status_of_reaped()
        self.cpu_time = usage.ru_utime + usage.ru_stime
        return status

    def _status_of_reaped(self) -> int:
        info = bytearray(_INFO.pack(_INFO_EXIT, 0))
        try:
            fcntl.ioctl(self.pidfd, _GET_INFO, info)
            known, status = _INFO.unpack(info)
        except OSError:
            known = 0
        if not known & _INFO_EXIT:
            raise StateError(
                "was reaped by this program, so that its status is lost",
                at="process",
                value=str(self.pid),
                remedy="wait for single children, and do not ignore SIGCHLD",
            )
        return int(status)

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
            pass  # it was reaped
        finally:
            close_owned(self, "pidfd")
