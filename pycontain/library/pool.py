"""The library's warm workers and their processes; `worker.py` is the other end of the socket."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal as signals
import socket
import threading

from ..errors import Interrupted, KernelError, StateError, Timeout, from_record
from ..kernel import seal
from ..lean import archive
from ..state.record import state_of
from . import forks
from .messages import REPLIES, receive, send
from .process import Process
from .worker import SOCKET, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..errors import PycontainError
    from ..kernel.wait import Until
    from .cancel import Limit
    from .messages import Message


_ENOUGH = 2 + 2 * (os.cpu_count() or 1)  # workers that are busy, or idle
_TIME_TO_BE_FREE = 0.5  # seconds until one more is started
_TIME_TO_FINISH = 0.2  # seconds for a worker to finish a launch that was cancelled
_TIME_TO_ANSWER = 0.6  # seconds for a worker to undo what it did not finish in time


class WorkerLostError(Exception):
    """
    A worker has not answered and never will; the caller must undo what it has begun.

    error  what to raise after that
    """

    def __init__(self, error: PycontainError) -> None:
        self.error = error
        super().__init__(str(error))


class Worker:
    """
    A warm interpreter and the socket to it.

    made       the containers that it deletes when the program ends: id -> (where the state is, pid)
    successor  the worker that has taken those over, after this one was killed
    """

    def __init__(self) -> None:
        with forks.making:
            self.socket, theirs = _pair()
            forks.share(self)
        try:
            with theirs:
                self.pid = _start(theirs.fileno())
        except BaseException:
            self.close_copy()
            raise
        # held from a request to its answer; reentrant, as a Stream may be freed in between
        self.lock = threading.RLock()
        self.made: dict[str, tuple[Message, int]] = {}
        self.successor: Worker | None = None

    def ask(
        self, request: Message, streams: list[int], until: Until, warn: Callable[[str], None]
    ) -> Process:
        """
        Send a request; returns the created process. warn is called with each warning.

        Raises the worker's error, and WorkerLostError if it has died or is late.
        """
        reply, fds = self._exchange(request, streams, until)
        try:
            return _started(reply, fds, warn)
        except (TypeError, ValueError) as error:
            for fd in fds:
                os.close(fd)
            wrong = StateError(f"has sent an invalid message: {error}", at="the worker")
            raise WorkerLostError(wrong) from None

    def _exchange(
        self, request: Message, streams: list[int], until: Until
    ) -> tuple[Message, list[int]]:
        """The worker's reply, with its descriptors. Raises WorkerLostError."""
        left = until.left
        spare = _spare(self.socket.fileno(), 2 if request.get("tty") else 1)
        try:
            with self.lock:
                self.socket.settimeout(None if left is None else left + _TIME_TO_ANSWER)
                send(self.socket, {**request, "seconds": left}, streams)
                if until.signals >= 0:
                    self._await(until)
                _close(spare)
                reply, fds = receive(self.socket, REPLIES, 2)
        except (BrokenPipeError, ConnectionResetError):
            reply, fds = None, []
        except (StateError, Interrupted) as error:
            raise WorkerLostError(error) from None
        except TimeoutError:
            raise WorkerLostError(Timeout("has expired", at="the time limit")) from None
        finally:
            _close(spare)
        if reply is None:
            raise WorkerLostError(StateError("has died", at="the worker", remedy="call again"))
        return reply, fds

    def _await(self, until: Until) -> None:
        """Wait for an answer. Raises Interrupted when the call is cancelled, and TimeoutError."""
        watch = select.poll()
        watch.register(self.socket, select.POLLIN)
        watch.register(until.signals, select.POLLIN)
        ready = watch.poll(None if until.left is None else (until.left + _TIME_TO_ANSWER) * 1000)
        if not ready:
            raise TimeoutError
        if self.socket.fileno() not in dict(ready):
            watch.unregister(until.signals)
            if not watch.poll(_TIME_TO_FINISH * 1000):
                raise until.interruption()

    def forget(self, id: str) -> None:
        """Tell the worker that the container was deleted."""
        if self.successor is not None:
            return self.successor.forget(id)
        self.made.pop(id, None)
        self.tell({"verb": "forget", "id": id})

    def tell(self, message: Message) -> None:
        """Send a message that has no answer."""
        try:
            with self.lock:
                self.socket.settimeout(_TIME_TO_ANSWER)
                send(self.socket, message, [])
        except OSError:
            pass  # it has ended, or `close` has ended it

    def replace(self) -> Worker:
        """
        Kill a worker that is lost; returns one that takes over its containers.

        Hooks that it runs are killed, too, and children that it could not report. The caller must
        delete everything else that it has not finished.
        """
        os.kill(self.pid, signals.SIGSTOP)  # not killed yet: its children would get another parent
        for pid in descendants(self.pid):
            os.kill(pid, signals.SIGKILL)
        os.kill(self.pid, signals.SIGKILL)
        self.end()
        self._end_unreported()
        self.successor = Worker()
        self.successor.made = self.made
        for where, _ in self.made.values():
            self.successor.tell({**where, "verb": "adopt"})
        return self.successor

    def _end_unreported(self) -> None:
        """
        Kill the children of ours that it created but could not report, and reap them.

        Until they execute a program they have its name, as have containers that wait for `start`.
        The search is repeated, since a killed one may just have created another process.
        """
        name = name_of(self.pid).encode()
        reported = {pid for _, pid in self.made.values()}
        while unreported := [
            pid for pid in _children() if pid not in reported and _name(pid) == name
        ]:
            for pid in unreported:
                os.kill(pid, signals.SIGKILL)
            reap(unreported)

    def end(self) -> None:
        """End the worker, which deletes the containers that it has not forgotten."""
        forks.unshare(self)
        self.socket.close()
        reap([self.pid])

    def close_copy(self) -> None:
        """In a forked child: close the socket, or the worker would not notice the program's end."""
        forks.unshare(self)
        self.socket.close()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:  # the program has reaped it
            return False


def _started(reply: Message, fds: list[int], warn: Callable[[str], None]) -> Process:
    """
    The process that a worker reports. warn is called with each warning.

    Raises the error if it reports one, and TypeError or ValueError for a malformed reply.
    """
    ended, times, state = reply["ended"], reply.get("times"), reply.get("state")
    warnings = reply["warnings"]
    assert isinstance(ended, list), "checked by REPLIES"
    assert isinstance(warnings, list), "checked by REPLIES"
    reap(ended)
    for text in warnings:
        warn(str(text))
    if "fault" in reply:
        raise from_record(reply["fault"])
    if not fds:  # another thread has used the descriptor that was kept free
        raise WorkerLostError(_full("recvmsg", errno.EMFILE))
    assert isinstance(times, list), "checked by REPLIES"
    entries = tuple(tuple(entry) for entry in times)
    return Process(int(str(reply["pid"])), fds, entries, state_of(state) if state else None)


def _pair() -> tuple[socket.socket, socket.socket]:
    try:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise _full("socketpair", error.errno or 0) from None


def _spare(fd: int, number: int) -> list[int]:
    """Open descriptors to be closed for those of an answer, which could exceed the limit."""
    spare: list[int] = []
    try:
        for _ in range(number):
            spare.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0))  # noqa: PERF401 -- closed below
    except OSError as error:
        _close(spare)
        raise _full("dup", error.errno or 0) from None
    return spare


def _close(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())


def _full(call: str, number: int) -> KernelError:
    return KernelError.of(call, number, at="a worker", remedy="close files, or raise RLIMIT_NOFILE")


def reap(ended: Iterable[int]) -> None:
    """Wait for children of ours that have ended, or are about to."""
    for pid in ended:
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass  # the program, which waits for all its children, was faster


def descendants(pid: int) -> list[int]:
    """All processes that a process has started, directly or not. proc(5), children."""
    pids: list[int] = []
    pending = [pid]
    while pending:
        parent = pending.pop()
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{task}/children") as file:
                    children = [int(child) for child in file.read().split()]
                pids += children
                pending += children
        except FileNotFoundError:
            continue  # it has ended
    return pids


def _children() -> list[int]:
    """Our children. proc(5), children."""
    pids: list[int] = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/children") as file:
                pids += map(int, file.read().split())
        except FileNotFoundError:
            continue  # this thread has ended
    return pids


def _name(pid: int) -> bytes:
    """A process's name, empty if it does not exist any more."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read().rstrip(b"\n")
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _start(fd: int) -> int:
    """Start a worker from a sealed interpreter, with our import path."""
    with forks.making:  # a forked child's copy would keep the seal locked, also against others
        path = seal.interpreter()
    streams = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    if fd == SOCKET:
        os.set_inheritable(fd, True)
    return os.posix_spawn(
        path,
        archive.command(seal.own(), "pycontain.library.worker:serve"),
        os.environ,
        file_actions=[*streams, (os.POSIX_SPAWN_DUP2, fd, SOCKET)],
        setsigmask=(),
        setsigdef=(signals.SIGCHLD,),  # the caller may ignore it; hooks must be waited for
    )


class WorkerPool:
    """
    Idle workers; each serves one call at a time.

    If many are busy, a call waits for one, since starting another takes longer than most calls. It
    does not wait for long: a worker that runs a hook may be busy until another call is made.
    """

    def __init__(self) -> None:
        self.close_copy()
        forks.share(self)

    def close_copy(self) -> None:
        """Start without workers, and with a new lock, as a forked child must."""
        self.freed = threading.Condition()  # with a reentrant lock, as a worker's
        self.busy = 0
        self.given = 0  # how often one became free
        self.free: list[Worker] = []
        self.retired: list[Worker] = []

    def take(self, until: Limit) -> Worker:
        """An idle worker, or a new one. Raises Timeout and Interrupted."""
        with self.freed:
            self._wait(until)
            chosen = self.free.pop() if self.free else None
            self.busy += 1
        try:
            if chosen is None:
                return Worker()
            return chosen if chosen.alive else chosen.replace()
        except BaseException:
            self._count_down()
            raise

    def _wait(self, until: Limit) -> None:
        """If many workers are busy, wait for one, as long as some become free."""
        seen = -1
        while self.busy >= _ENOUGH and not self.free and seen != self.given:
            seen = self.given
            left = until.left
            self.freed.wait(_TIME_TO_BE_FREE if left is None else min(_TIME_TO_BE_FREE, left))
            until.check()

    def give(self, chosen: Worker) -> None:
        """Return an idle worker; it is ended if there are enough, unless it has containers."""
        with self.freed:
            surplus = len(self.free) >= _ENOUGH and not chosen.made
            if not surplus:
                self.free.append(chosen)
        self._count_down()
        if surplus:
            chosen.end()

    def replace(self, lost: Worker) -> None:
        """Kill a worker that is lost; another one takes its place."""
        self.give(lost.replace())

    def retire(self, chosen: Worker) -> None:
        """Keep a worker for the containers that it has created, but give it no more calls."""
        with self.freed:
            self.retired.append(chosen)
        self._count_down()

    def close(self) -> None:
        """End the idle workers."""
        with self.freed:
            ended, self.free = self.free, []
        for each in ended:
            each.end()

    def _count_down(self) -> None:
        with self.freed:
            self.busy -= 1
            self.given += 1
            self.freed.notify()
