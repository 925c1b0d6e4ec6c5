"""
Containers from a Python program: `pycontain.run`, `pycontain.Container`.

The program itself never forks. Its first call starts a worker (`pycontain.runtime.worker`), which
costs as much as starting Python; from then on a container costs some milliseconds, in programs
with threads too. Calls from several threads at once use as many workers.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import select
import sys
import termios
import time

from . import jsontext
from .errors import PycontainError, StateError, Timeout
from .record import Record
from .runtime import worker
from .runtime.bundle import Bundle
from .runtime.container import Container as _Known
from .runtime.delete import delete
from .runtime.kill import kill
from .runtime.options import Options
from .runtime.pause import pause
from .runtime.pool import Pool, Process, Worker
from .runtime.resume import resume
from .runtime.start import start
from .runtime.update import update

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal, Self

    Reason = Literal["exit", "signal", "oom"]

_PIECE = 1 << 16


class Result(Record):
    """
    How a program in a container ended.

    status  its exit status, or 128 and the number of the signal that killed it
    reason  "exit", "signal", or "oom" when the kernel killed it for lack of memory
    signal  the signal's number, 0 for "exit"
    stdout  what it printed; empty when the streams were inherited
    stderr  the same of its standard error
    times   (side, step, microseconds) of what was done to start it
    wall    seconds from the call to its end
    """

    status: int
    reason: Reason
    signal: int
    stdout: bytes
    stderr: bytes
    times: tuple[tuple[str, str, int], ...]
    wall: float


def run(
    bundle: str | os.PathLike[str],
    args: Sequence[str] = (),
    *,
    env: Mapping[str, str] | None = None,
    cwd: str = "",
    stdin: bytes = b"",
    capture: bool = True,
    timeout: float | None = None,
    id: str = "",
    options: Options | None = None,
) -> Result:
    """
    Run a bundle to its end, and leave nothing behind.

    args and cwd take the place of the configuration's own, env is added to it; process.terminal
    counts as false, because the program has the caller's streams or pipes. With capture the
    output is returned and stdin is what the program reads; without, the streams are the caller's.

    Raises Timeout when it takes longer than timeout seconds (the container is killed and gone by
    then), ProgramError when the program cannot be executed, and other PycontainErrors.
    """
    with Container(bundle, args, env=env, cwd=cwd, id=id, options=options) as container:
        return container.run(stdin, capture=capture, timeout=timeout)


def close() -> None:
    """
    End the workers that no call is using; the next call starts new ones.

    A program that ends does not need this: its workers end with it.
    """
    _pool.close()


class Container:
    """
    A container that is deleted at the end of a `with` block, whatever happens in it.

        with pycontain.Container("bundle") as container:
            container.create()
            container.start()
            print(container.exec(["ls", "/"]).stdout)

    id       its name, made up unless given
    options  where its state is kept and which cgroup manager is used
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        args: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        id: str = "",
        options: Options | None = None,
    ) -> None:
        self.bundle = os.path.abspath(bundle)
        self.id = id or f"py-{os.getpid()}-{next(_numbers)}"
        self.options = options or Options()
        self._config = _changed(self.bundle, args, env or {}, cwd)
        self._process: Process | None = None
        self._worker: Worker | None = None
        self._ours = False  # another container of this name is not ours to delete

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.delete()

    # --- life ----------------------------------------------------------------------------------

    def create(self) -> None:
        """Make the container; its program waits for `start`. Its streams are the caller's."""
        self._process = self._made("create", [0, 1, 2])

    def start(self) -> None:
        """Let the program of a created container run."""
        start(self.options, self.id)

    def run(
        self, stdin: bytes = b"", *, capture: bool = True, timeout: float | None = None
    ) -> Result:
        """Create, start and wait, as the function `run`."""
        began = time.perf_counter()
        with _Pipes(stdin, capture) as pipes:
            self._process = self._made("run", pipes.theirs)
            pipes.serve(self._process, began, timeout, self.id)
            return self._result(self._process, pipes, began)

    def exec(
        self,
        args: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        stdin: bytes = b"",
        capture: bool = True,
        timeout: float | None = None,
    ) -> Result:
        """Run one more program in the container, to its end."""
        began = time.perf_counter()
        request: worker.Message = {
            "verb": "exec",
            "args": list(args),
            "env": [f"{name}={value}" for name, value in (env or {}).items()],
            "cwd": cwd,
        }
        with _Pipes(stdin, capture) as pipes:
            process = self._ask(request, pipes.theirs)
            try:
                pipes.serve(process, began, timeout, self.id)
                return self._result(process, pipes, began)
            finally:
                process.end()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the program's end; returns its status. Raises Timeout, StateError."""
        if self._process is None:
            raise StateError("was not created here", at="container", value=self.id)
        if not self._process.wait(timeout):
            raise Timeout(f"has not ended after {timeout:g} s", at="container", value=self.id)
        return self._process.status()[0]

    def delete(self) -> None:
        """
        Kill what runs and remove everything.

        A container that is gone already is no error; one that was made elsewhere is left alone.
        """
        if not self._ours:
            return
        if self._process is not None:
            self._process.kill()
        state = self._process.state if self._process is not None else None
        delete(self.options, self.id, force=True, state=state)
        if self._process is not None:
            self._process.end()
            self._process = None
        if self._worker is not None:
            self._worker.forget(self.id)
            self._worker = None
        self._ours = False

    # --- while it lives ------------------------------------------------------------------------

    def state(self) -> dict[str, object]:
        """What `pycontain state` prints."""
        return _Known(self.options, self.id).public()

    def kill(self, signal: str | int = "SIGTERM", *, all: bool = False) -> None:
        """Send a signal to the first process, or to all."""
        kill(self.options, self.id, str(signal), all=all)

    def pause(self) -> None:
        """Stop every process where it is."""
        pause(self.options, self.id)

    def resume(self) -> None:
        """Let a paused container go on."""
        resume(self.options, self.id)

    def update(self, resources: dict[str, object]) -> None:
        """Change limits; resources have the shape of `linux.resources`."""
        update(self.options, self.id, resources)

    # --- how -----------------------------------------------------------------------------------

    def _made(self, verb: str, streams: list[int]) -> Process:
        request: worker.Message = {"verb": verb, "bundle": self.bundle, "config": self._config}
        before, self._ours = self._ours, True
        try:
            return self._ask(request, streams)
        except PycontainError:  # what could not be made was undone
            self._ours = before
            raise

    def _ask(self, request: worker.Message, streams: list[int]) -> Process:
        chosen = _pool.take()
        try:
            where = {"root": self.options.root, "cgroup_manager": self.options.cgroup_manager}
            process = chosen.ask({**request, **where, "id": self.id}, streams)
        except PycontainError:
            _pool.give(chosen)
            raise
        except BaseException:  # interrupted: its answer, still to come, is nobody else's
            _pool.retire(chosen)
            raise
        _pool.give(chosen)
        if request["verb"] != "exec":
            self._worker = chosen
        return process

    def _result(self, process: Process, pipes: _Pipes, began: float) -> Result:
        status, number = process.status()
        reason: Reason = "exit"
        if number:
            reason = "oom" if self._out_of_memory() else "signal"
        return Result(
            status=status,
            reason=reason,
            signal=number,
            stdout=b"".join(pipes.pieces[1]),
            stderr=b"".join(pipes.pieces[2]),
            times=process.times,
            wall=time.perf_counter() - began,
        )

    def _out_of_memory(self) -> bool:
        cgroup = _Known(self.options, self.id).cgroup
        return cgroup is not None and bool(cgroup.oom_kills())


def _changed(bundle: str, args: Sequence[str], env: Mapping[str, str], cwd: str) -> str:
    """The configuration with another process, "" when nothing changes."""
    if not (args or env or cwd):
        return ""
    config = jsontext.loads(Bundle.read(bundle))
    process = config.get("process") if isinstance(config, dict) else None
    if not isinstance(process, dict):
        raise StateError("has no process to change", at=bundle)
    if args:
        process["args"] = list(args)
    if cwd:
        process["cwd"] = cwd
    process["env"] = [*process.get("env", ()), *(f"{name}={text}" for name, text in env.items())]
    return jsontext.dumps(config)


class _Pipes:
    """The standard streams of a program: the caller's, or pipes whose other ends are served."""

    def __init__(self, stdin: bytes, capture: bool) -> None:
        self.pieces: dict[int, list[bytes]] = {1: [], 2: []}
        self.stdin = stdin
        self.theirs, self.ours = [0, 1, 2], [-1, -1, -1]
        if capture:
            ends = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
            self.theirs = [ends[0][0], ends[1][1], ends[2][1]]
            self.ours = [ends[0][1], ends[1][0], ends[2][0]]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in (*self.theirs, *self.ours):
            if fd > 2:
                os.close(fd)

    def serve(self, process: Process, began: float, timeout: float | None, id: str) -> None:
        """Feed and read until the process has ended. Raises Timeout, with the process killed."""
        for stream, fd in enumerate(self.theirs):
            if fd > 2:
                os.close(fd)
                self.theirs[stream] = -1
        watch = select.poll()
        watch.register(process.pidfd, select.POLLIN)
        self._register(watch)
        ended = False
        while not ended:
            left = None if timeout is None else timeout - (time.perf_counter() - began)
            ready = dict(watch.poll(None if left is None else max(left, 0) * 1000))
            ended = process.pidfd in ready
            if not ended and (not ready or (left is not None and left <= 0)):
                process.kill()
                raise Timeout(f"ran longer than {timeout:g} s", at="container", value=id)
            self._move(ready, watch)
        self._drain()

    def _register(self, watch: select.poll) -> None:
        for stream, fd in enumerate(self.ours):
            if fd >= 0:
                os.set_blocking(fd, False)
                watch.register(fd, select.POLLIN if stream else select.POLLOUT)

    def _move(self, ready: dict[int, int], watch: select.poll) -> None:
        for stream, fd in enumerate(self.ours):
            if fd not in ready or fd < 0:
                continue
            done = self._read(stream) if stream else self._write()
            if done:
                watch.unregister(fd)
                os.close(fd)
                self.ours[stream] = -1

    def _write(self) -> bool:
        """Give the program what it can take now; whether that was all."""
        try:
            self.stdin = self.stdin[os.write(self.ours[0], self.stdin[:_PIECE]) :]
        except BrokenPipeError:
            return True
        return not self.stdin

    def _read(self, stream: int, limit: int = _PIECE) -> bool:
        """Take what there is, up to so many bytes; whether the stream has ended."""
        try:
            piece = os.read(self.ours[stream], limit)
        except BlockingIOError:
            return False
        self.pieces[stream].append(piece)
        return not piece

    def _drain(self) -> None:
        """What is there now. A process that outlives the first may go on writing for ever."""
        for stream in (1, 2):
            if self.ours[stream] >= 0 and (held := self._held(stream)):
                self._read(stream, held)  # a pipe gives all that it is asked for and has

    def _held(self, stream: int) -> int:
        """How many bytes wait to be read. ioctl_tty(2), FIONREAD; pipe(7)."""
        size = fcntl.ioctl(self.ours[stream], termios.FIONREAD, bytes(4))
        return int.from_bytes(size, sys.byteorder)


_numbers = itertools.count(1)
_pool = Pool()
