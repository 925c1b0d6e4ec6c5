"""The library's warm workers and their processes; `worker.py` is the other end of the socket."""

from __future__ import annotations

import os
import select
import signal as signals
import socket
import threading

from ..errors import StateError, from_record
from ..kernel import seal
from ..lean import archive
from ..state.record import state_of
from .messages import receive, send
from .worker import SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..state.record import State
    from .messages import Message


class Worker:
    """A warm interpreter and the socket to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self.pid = _start(theirs.fileno())
        self.socket = ours
        self.lock = threading.Lock()  # of one request and its answer

    def ask(self, request: Message, streams: list[int]) -> Process:
        """Send a request; the process it made. Raises what went wrong there."""
        try:
            with self.lock:
                send(self.socket, request, streams)
                reply, fds = receive(self.socket, 1)
        except (BrokenPipeError, ConnectionResetError):
            reply = None
        if reply is None:
            raise StateError("has died", at="the worker", remedy="call again")
        _reap(reply["ended"])
        if "fault" in reply:
            fault = reply["fault"]
            assert isinstance(fault, dict)
            raise from_record(fault)
        state = state_of(reply["state"]) if reply["state"] else None
        return Process(int(str(reply["pid"])), fds[0], reply["times"], state)

    def forget(self, id: str) -> None:
        """The container was deleted."""
        try:
            with self.lock:
                send(self.socket, {"verb": "forget", "id": id}, [])
        except BrokenPipeError:
            pass  # the worker is gone, and with it what it knew

    def end(self) -> None:
        """Let it go: it deletes what it made and was not told to forget."""
        self.socket.close()
        os.waitpid(self.pid, 0)

    @property
    def alive(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def _reap(ended: object) -> None:
    """Wait for children that a worker made and that have ended."""
    assert isinstance(ended, list)
    for pid in ended:
        os.waitpid(pid, 0)


def _start(fd: int) -> int:
    """Start a worker from a sealed interpreter. Its import path is ours."""
    path = seal.interpreter()
    streams = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    if fd == SOCKET:
        os.set_inheritable(fd, True)
    return os.posix_spawn(
        path,
        archive.command(path, "pycontain.library.worker:serve"),
        os.environ,
        file_actions=[*streams, (os.POSIX_SPAWN_DUP2, fd, SOCKET)],
        setsigmask=(),
    )


class Pool:
    """Workers that are free; each serves one call at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.free: list[Worker] = []
        self.retired: list[Worker] = []
        self.owner = os.getpid()

    def take(self) -> Worker:
        """A free worker, or a new one. After a fork of the program the child starts its own."""
        with self.lock:
            if self.owner != os.getpid():
                self.free, self.owner = [], os.getpid()
            while self.free:
                chosen = self.free.pop()
                if chosen.alive:
                    return chosen
                chosen.end()
        return Worker()

    def give(self, chosen: Worker) -> None:
        """It is free again."""
        with self.lock:
            self.free.append(chosen)

    def retire(self, chosen: Worker) -> None:
        """It serves no more calls, but lives on with the containers it has made."""
        with self.lock:
            self.retired.append(chosen)

    def close(self) -> None:
        """End the workers that are free."""
        with self.lock:
            ended, self.free = self.free, []
        for each in ended:
            each.end()


class Process:
    """
    A child of ours that a worker made.

    state  of the container whose first process it is
    """

    def __init__(self, pid: int, pidfd: int, times: object, state: State | None) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.state = state
        self.times = tuple(tuple(entry) for entry in times)  # type: ignore[attr-defined]
        self._ended: os.waitid_result | None = None

    def wait(self, timeout: float | None) -> bool:
        """Whether it has ended within this time (seconds)."""
        watch = select.poll()
        watch.register(self.pidfd, select.POLLIN)
        return bool(watch.poll(None if timeout is None else timeout * 1000))

    def status(self) -> tuple[int, int]:
        """(a shell's exit status, the signal that killed it or 0), of a process that has ended."""
        if self._ended is None:
            self._ended = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        assert self._ended is not None
        number = self._ended.si_status
        return (number, 0) if self._ended.si_code == os.CLD_EXITED else (128 + number, number)

    def kill(self) -> None:
        """End it now."""
        if self._ended is None:
            signals.pidfd_send_signal(self.pidfd, signals.SIGKILL)

    def end(self) -> None:
        """Kill it, reap it, and let go of it."""
        self.kill()
        self.status()
        os.close(self.pidfd)
