"""
`Pool`: runs in copies of an interpreter that has started already.

    with pycontain.Pool(2, imports=["json", "statistics"]) as pool:
        print(pool.run("statistics.mean([1, 2, 6])").value)

Each run is isolated as in a container of its own (`inside.forkserver`), and limited as any sandbox.
Copies wait ready, isolated and confined, for their code; one is used for one run, and the next is
made while it runs.
"""

from __future__ import annotations

import os
import threading
import time

from ..errors import Interrupted, StateError, UsageError
from ..library import forks
from ..library.aio import in_thread, to_end
from . import log
from .fork import Copy
from .limits import Held, limits, with_timeout
from .server import Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn, Self

    from ..cgroup.tree import Cgroup
    from ..library.cancel import Cancel
    from .result import SandboxResult

_TURN = 0.1  # seconds between looks whether a call that waits was cancelled
_RUNS_OF_A_SERVER = 5000  # its copies share their addresses and the seed of hash()


class Pool:
    """
    Runs Python code in copies of a prepared interpreter, up to `size` at once.

    size      how many runs there can be at once; further calls wait
    imports   modules that the interpreter has imported already
    packages  directories of the host with further modules, which are seen read-only
    env       further environment variables
    record    a file to which a line of JSON is added for each run (`sandbox.log`)
    memory, cpus, pids, disk, open_files, timeout, cpu, output
              the limits of each run (`sandbox.limits`); None for the default, 0 for none

    Raises HostError if the interpreter does not become ready, UsageError for an impossible limit.
    """

    def __init__(
        self,
        size: int = 2,
        *,
        imports: Sequence[str] = (),
        packages: Sequence[str | os.PathLike[str]] = (),
        env: Mapping[str, str] | None = None,
        record: str | os.PathLike[str] | None = None,
        memory: str | int | None = None,
        cpus: float | None = None,
        pids: int | None = None,
        disk: str | int | None = None,
        open_files: int | None = None,
        timeout: float | None = None,
        cpu: float | None = None,
        output: str | int | None = None,
    ) -> None:
        if not 1 <= size <= 100:
            raise UsageError("is not between 1 and 100", at="size", value=str(size))
        self.limits = limits(
            memory=memory, cpus=cpus, pids=pids, disk=disk, files=open_files,
            timeout=timeout, cpu=cpu, output=output,
        )  # fmt: skip
        self.size = size
        self._held = Held()
        self._record = record
        self._prepared = tuple(imports), tuple(packages), dict(env or {})
        self._turns = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._slots = list(range(2 * size))  # of those that run, and of those that are ready
        self._ready: list[Copy] = []
        self._spent: list[Cgroup] = []
        self._closed = False
        self._server = self._new_server()
        forks.share(self)
        for _ in range(size):
            self._ready.append(self._copy())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        await to_end(self.close, kind)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Pool belongs to one process: make one in each")

    def close(self) -> None:
        """End every run, and the interpreter. The pool cannot be used any more."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._discard_ready()
        forks.unshare(self)
        self._server.close()

    def close_copy(self) -> None:
        """In a forked child: the pool is the program's, and closed here."""
        forks.unshare(self)
        self._lock = threading.Lock()  # another thread may hold it
        self._closed = True

    def run(
        self,
        code: str | bytes,
        *,
        stdin: bytes = b"",
        files: Mapping[str, bytes] | None = None,
        collect: Sequence[str] = (),
        timeout: float | None = None,
    ) -> SandboxResult:
        """
        Run code, to its end.

        files    what /work has at the beginning
        collect  paths of files to read at the end, for `SandboxResult.files`
        timeout  seconds, instead of the pool's

        A limit that ends the run is the reason of the result; nothing is raised for it. Raises
        StateError for a pool that is closed, and HostError if its interpreter has died and does not
        start again.
        """
        return self._run(code, stdin, files or {}, collect, timeout, None)

    async def run_async(
        self,
        code: str | bytes,
        *,
        stdin: bytes = b"",
        files: Mapping[str, bytes] | None = None,
        collect: Sequence[str] = (),
        timeout: float | None = None,
    ) -> SandboxResult:
        """As `run`, in an asyncio task; cancelling it ends the run at once."""
        return await in_thread(
            lambda cancel: self._run(code, stdin, files or {}, collect, timeout, cancel)
        )

    def _run(
        self,
        code: str | bytes,
        stdin: bytes,
        files: Mapping[str, bytes],
        collect: Sequence[str],
        timeout: float | None,
        cancel: Cancel | None,
    ) -> SandboxResult:
        data = code.encode() if isinstance(code, str) else code
        chosen = with_timeout(self.limits, timeout)
        self._await_turn(cancel)
        try:
            copy = self._take()
            try:
                copy.watch.limits = chosen
                copy.watch.cancel = -1 if cancel is None else cancel.fd
                for path, content in files.items():
                    copy.files.write(path, content)
                copy.start(data, stdin)
                self._refill()
                result = copy.to_end(collect)
            finally:
                self._give_back(copy)
        finally:
            self._turns.release()
        return log.noted("pool", data, result, self._record)

    def _await_turn(self, cancel: Cancel | None) -> None:
        while not self._turns.acquire(timeout=_TURN):
            if cancel is not None and cancel.is_set:
                raise Interrupted("was cancelled", at="the run")

    # --- copies --------------------------------------------------------------------------------

    def _take(self) -> Copy:
        """A copy that is ready, or a new one; a server that has died is replaced."""
        with self._lock:
            if self._closed:
                raise StateError("is closed", at="the pool")
            if not self._server.alive or self._server.runs >= _RUNS_OF_A_SERVER:
                self._discard_ready()
                self._server.close()
                self._server = self._new_server()
            while self._ready:
                copy = self._ready.pop(0)
                if not copy.has_ended:
                    return copy
                self._drop(copy)
            return self._copy()

    def _refill(self) -> None:
        """Have another copy made, while this thread waits for its run."""
        with self._lock:
            if self._closed or len(self._ready) >= self.size:
                return
            try:
                self._ready.append(self._copy())
            except StateError:
                return  # the interpreter has just died: the next call replaces it

    def _give_back(self, copy: Copy) -> None:
        """Clean up after a copy, and after earlier ones whose processes have now gone."""
        with self._lock:
            self._drop(copy)
            self._spent = [each for each in self._spent if not Server.remove_if_empty(each)]

    def _copy(self) -> Copy:
        slot = self._slots.pop()
        try:
            return Copy(self._server, self.limits, slot)
        except BaseException:
            self._slots.append(slot)
            raise

    def _drop(self, copy: Copy) -> None:
        copy.close()
        self._slots.append(copy.slot)
        self._spent.append(copy.cgroup)

    def _discard_ready(self) -> None:
        while self._ready:
            self._drop(self._ready.pop())

    def _new_server(self) -> Server:
        began = time.perf_counter()
        server = Server(*self._prepared, self._held)
        log.LOGGER.debug("an interpreter is ready after %.3f s", time.perf_counter() - began)
        return server
