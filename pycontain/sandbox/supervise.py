"""
One run, from outside: what it reads and writes, the limits that only watching holds, its end.

Everything is looked at every 20 ms: what the cgroup counts and, on a hybrid host, the memory and
the number of its processes. Whatever limit is reached first ends all of the run at once, through
its cgroup (cgroup.kill), and is the reason of its result.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import time

from ..cgroup.tree import table
from ..errors import KernelError, PycontainError
from ..kernel.files import read_text
from .result import SandboxResult

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..cgroup.tree import Cgroup
    from .files import Files
    from .limits import Held, Limits
    from .result import Reason

_TICK = 0.02  # seconds
_PIECE = 1 << 16
_SIZE = _MARK = 4  # bytes, at the beginning of an answer
_ANSWER = 2 << 20  # bytes; an answer from inside is shorter
_GONE = (errno.ENOENT, errno.ESRCH, errno.ENODEV)

# What an uncaught exception in a snippet reveals of a limit that only its process has noticed.
_ERRNOS: dict[int, Reason] = {
    errno.ENOSPC: "disk",
    errno.EMFILE: "files",
    errno.EAGAIN: "pids",
    errno.ENOMEM: "memory",
}


class Watch:
    """
    A run while it lasts.

    ended    a descriptor that is readable once it has ended
    cgroup   what its processes are in
    outputs  descriptor -> what was read from it: standard output, standard error
    control  the socket to the code that runs snippets, -1 without one
    unsent   what is still to be written to `control`
    """

    def __init__(self, limits: Limits, held: Held, files: Files, cgroup: Cgroup) -> None:
        self.limits = limits
        self.held = held
        self.files = files
        self.cgroup = cgroup
        self.began = 0.0
        self.ended = -1
        self.outputs: list[tuple[int, bytearray]] = []
        self.control = -1
        self.unsent = memoryview(b"")
        self.answer = bytearray()
        self.mark = b""  # of the request, which its answer has, too: others were forged before
        self.reason: Reason | None = None  # why it was ended
        self.hits: set[str] = set()
        self.peak = 0  # bytes, the most that was seen
        self.overhead = 0  # processes in the cgroup that are ours
        self.on_output: Callable[[int, bytes], bool] | None = None  # whether it has taken it
        self.cancel = -1  # a descriptor that is readable once the caller wants it to end
        self._written = 0
        self._cpu_before = 0.0
        self._was_full = False  # the files, before it began
        self._is_full = False  # whether they were seen to be
        self._poll = select.poll()

    def begin(self, data: bytes = b"") -> None:
        """Count from now on; data is sent to `control`."""
        self.began = time.perf_counter()
        self.mark = os.urandom(_MARK)
        self.unsent = memoryview(self.mark + data if data else b"")
        self.hits.clear()
        self._written = 0
        self._cpu_before = self.cpu()
        self._was_full = self._is_full = self.files.is_full
        for _, kept in self.outputs:
            kept.clear()
        if data:
            os.set_blocking(self.control, False)
            self.send()

    def stop(self, reason: Reason) -> None:
        """End all of it; the first reason counts. Any thread may call this."""
        if self.reason is None:
            self.reason = reason
            self.hits.add(reason)
        try:
            self.cgroup.kill()
        except PycontainError as error:
            if error.errno not in _GONE:
                raise

    # --- until it ends -------------------------------------------------------------------------

    def serve(self, until_answer: bool = False) -> bool:
        """Read, write and watch until the run has ended, or has answered; whether it has ended."""
        self._register()
        next_tick = time.monotonic() + _TICK
        deadline = self.began + self.limits.timeout if self.limits.timeout else None
        while True:
            ready = dict(self._poll.poll(max(next_tick - time.monotonic(), 0) * 1000))
            if self.cancel in ready:
                self.stop("cancelled")
                self._poll.unregister(self.cancel)
            for fd, events in ready.items():
                self._serve(fd, events)
            if self.ended in ready or (until_answer and self.has_answer):
                break
            if deadline is not None and time.perf_counter() >= deadline:
                self.stop("timeout")
            if time.monotonic() >= next_tick:
                self._look()
                next_tick = time.monotonic() + _TICK
        for stream in range(len(self.outputs)):
            self._drain(stream)
        if self.control >= 0 and self.ended in ready:
            self._receive()
        return self.ended in ready

    def _register(self) -> None:
        self._poll.register(self.ended, select.POLLIN)
        if self.cancel >= 0:
            self._poll.register(self.cancel, select.POLLIN)
        for fd, _ in self.outputs:
            os.set_blocking(fd, False)
            self._poll.register(fd, select.POLLIN)
        if self.control >= 0:
            os.set_blocking(self.control, False)
            self._watch_control()

    def _watch_control(self) -> None:
        events = select.POLLIN | (select.POLLOUT if self.unsent else 0)
        self._poll.register(self.control, events)

    def _serve(self, fd: int, events: int) -> None:
        if fd == self.control:
            if events & select.POLLOUT:
                self.send()
                self._watch_control()
            if events & ~select.POLLOUT and not self._receive():
                self._poll.unregister(fd)
            return
        for stream, (output, _) in enumerate(self.outputs):
            if output == fd and self._read(stream) == 0:
                self._poll.unregister(fd)

    def send(self) -> None:
        """Write as much as fits now."""
        try:
            self.unsent = self.unsent[os.write(self.control, self.unsent[:_PIECE]) :]
        except (BrokenPipeError, ConnectionResetError):
            self.unsent = memoryview(b"")
        except BlockingIOError:
            return

    def _receive(self) -> bool:
        """Read what has arrived of an answer; False at its end."""
        try:
            piece = os.read(self.control, _PIECE)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        self.answer += piece[: _ANSWER - len(self.answer)]
        if len(self.answer) == _ANSWER:  # no answer is so long: it is a flood of forged ones
            self.stop("output")
        return bool(piece)

    def _read(self, stream: int) -> int:
        """Read once; returns how many bytes, 0 at the end, -1 if there is nothing now."""
        fd, kept = self.outputs[stream]
        try:
            piece = os.read(fd, _PIECE)
        except BlockingIOError:
            return -1
        self._written += len(piece)
        limit = self.limits.output
        if limit and self._written > limit:
            piece = piece[: max(0, len(piece) - (self._written - limit))]
            self.stop("output")
        if self.on_output is None or not self.on_output(stream, piece):
            kept += piece
        return len(piece) if self.reason != "output" else -1

    def _drain(self, stream: int) -> None:
        """Read what is there. Not until the end: what was killed may still hold the pipe."""
        while self.reason != "output" and self._read(stream) > 0:
            pass

    # --- limits --------------------------------------------------------------------------------

    def _look(self) -> None:
        try:
            self._look_at_time()
            self._look_at_processes()
            self._look_at_memory()
            self._is_full |= self.files.is_full
        except KernelError as error:
            if error.errno not in _GONE:  # it has just ended
                raise

    def _look_at_time(self) -> None:
        if self.limits.cpu and self.cpu() - self._cpu_before >= self.limits.cpu:
            self.stop("cpu")

    def _look_at_processes(self) -> None:
        if "pids" in self.held.names:
            if self._events("pids.events", "max"):
                self.stop("pids")
        elif self.limits.pids:
            tasks = len(self.cgroup.read("cgroup.threads").split()) - self.overhead
            if tasks > self.limits.pids:
                self.stop("pids")

    def _look_at_memory(self) -> None:
        if "memory" in self.held.names:
            return
        used = sum(_memory(pid) for pid in self.cgroup.pids())
        self.peak = max(self.peak, used)
        if self.limits.memory and used > self.limits.memory:
            self.stop("memory")

    def cpu(self) -> float:
        """Seconds of processor time so far. It is counted in every cgroup, without a controller."""
        return int(table(self.cgroup.read("cpu.stat"))["usage_usec"]) / 1e6

    def _events(self, file: str, name: str) -> int:
        return int(table(self.cgroup.read(file)).get(name, "0"))

    # --- the result ----------------------------------------------------------------------------

    @property
    def has_answer(self) -> bool:
        """Whether all of an answer to the last request has arrived; drops those to others."""
        while len(self.answer) >= _SIZE + _MARK:
            end = self._end_of_answer()
            if len(self.answer) < end:
                return False
            if self.answer[_SIZE : _SIZE + _MARK] == self.mark:
                return True
            del self.answer[:end]
        return False

    def _end_of_answer(self) -> int:
        return _SIZE + _MARK + int.from_bytes(self.answer[:_SIZE], "little")

    def take_answer(self) -> dict[str, object]:
        """The answer, which the code may have forged."""
        if not self.has_answer:
            return {}
        end = self._end_of_answer()
        text, self.answer = self.answer[_SIZE + _MARK : end], self.answer[end:]
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def answered(self) -> SandboxResult:
        """The result of code that has been run in a session, which goes on."""
        answer = self.take_answer()
        return self._result(1 if answer.get("kind") else 0, 0, 0, answer)

    def result(self, status: int, number: int, peak: int = 0) -> SandboxResult:
        """The result of a run that has ended; peak is what the kernel has counted, in bytes."""
        return self._result(status, number, peak, self.take_answer())

    def _result(
        self, status: int, number: int, peak: int, answer: dict[str, object]
    ) -> SandboxResult:
        self._count()
        if "memory" in self.held.names:
            peak = self._peak() or peak
        return SandboxResult(
            status=status,
            signal=number,
            reason=self.reason or self._reason(status, number, answer),
            stdout=bytes(self.outputs[0][1]),
            stderr=bytes(self.outputs[1][1]),
            value=answer.get("value"),
            shown=_text(answer, "shown"),
            error=_text(answer, "error"),
            wall=time.perf_counter() - self.began,
            cpu_time=self.cpu() - self._cpu_before,
            memory_peak=max(peak, self.peak),
            hits=tuple(sorted(self.hits)),
            files={},
        )

    def _count(self) -> None:
        """Note the limits that were reached, from what the kernel has counted."""
        if "memory" in self.held.names and self._events("memory.events", "oom_kill"):
            self.hits.add("memory")
        if "pids" in self.held.names and self._events("pids.events", "max"):
            self.hits.add("pids")
        if self._has_lacked_room():
            self.hits.add("disk")

    def _has_lacked_room(self) -> bool:
        """Whether it has filled the files, or says of full ones that they are."""
        if not (self._is_full or self.files.is_full):
            return False
        text = os.strerror(errno.ENOSPC).encode()
        return not self._was_full or any(text in kept for _, kept in self.outputs)

    def _peak(self) -> int:
        try:
            return int(self.cgroup.read("memory.peak"))
        except KernelError:
            return 0  # before Linux 5.19

    def _reason(self, status: int, number: int, answer: dict[str, object]) -> Reason:
        """Why it ended by itself."""
        limit = _limit_noticed(answer)
        if limit:
            self.hits.add(limit)
            return limit
        if number == signal.SIGXCPU:
            self.hits.add("cpu")
            return "cpu"
        if number == signal.SIGKILL and "memory" in self.hits:
            return "memory"
        if status and "disk" in self.hits:
            return "disk"
        if status and "pids" in self.hits:
            return "pids"
        return "signal" if number else "exit"


def request(code: bytes, stdin: bytes) -> bytes:
    """What `inside.snippet` reads."""
    return b"%d %d\n" % (len(code), len(stdin)) + code + stdin


def _limit_noticed(answer: dict[str, object]) -> Reason | None:
    """The limit that an uncaught exception is about."""
    if answer.get("kind") == "MemoryError":
        return "memory"
    if answer.get("error") == "RuntimeError: can't start new thread":
        return "pids"
    number = answer.get("errno")
    return _ERRNOS.get(number) if isinstance(number, int) else None


def _text(answer: dict[str, object], name: str) -> str:
    found = answer.get(name)
    return found if isinstance(found, str) else ""


def _memory(pid: int) -> int:
    """The memory in bytes that a process has for itself or shares with others, without files."""
    try:
        text = read_text(f"/proc/{pid}/status")
    except KernelError as error:
        if error.errno in _GONE:
            return 0
        raise
    fields = dict(line.partition(":")[::2] for line in text.splitlines())
    kinds = ("RssAnon", "RssShmem")
    return sum(int(fields[kind].split()[0]) << 10 for kind in kinds if kind in fields)
