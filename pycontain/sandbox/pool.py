"""
`Pool`: runs in copies of an interpreter that has started already.

    with pycontain.Pool(2, imports=["json", "statistics"]) as pool:
        print(pool.run("statistics.mean([1, 2, 6])").value)

Each run is isolated as in a container of its own, and limited as any sandbox. What waits for its
code, isolated and confined, is a copy of one prepared interpreter (`inside.forkserver`), or, with
an image or a directory, a whole container (`sandbox.prepared`). It is used for one run; the next
one is made meanwhile.
"""

from __future__ import annotations

import threading
import time

from ..errors import Interrupted, PycontainError, StateError, UsageError
from ..library import arguments, forks
from ..library.aio import in_thread
from ..library.closing import Closing
from . import log
from .limits import with_timeout
from .prepared import Containers
from .server import Server
from .setup import Setup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn, Protocol, Unpack

    from ..library.cancel import Cancel
    from .files import Files
    from .result import SandboxResult
    from .setup import SandboxArguments
    from .supervise import Watch

    class Run(Protocol):
        """A run that waits for its code."""

        uid: int
        files: Files

        @property
        def watch(self) -> Watch:
            """What it reads and writes, and its limits."""

        @property
        def has_ended(self) -> bool:
            """Whether it is of no use any more."""

        def await_ready(self) -> None:
            """Wait until it has started. Raises HostError if it has failed."""

        def start(self, code: bytes, stdin: bytes) -> None:
            """Send the code."""

        def to_end(self, collect: Sequence[str]) -> SandboxResult:
            """Watch it until it has ended."""

        def close(self) -> None:
            """End it, if it has not ended, and leave nothing."""

    class Source(Protocol):
        """
        What makes runs.

        is_slow  whether making and closing one takes so long that a thread does it
        """

        @property
        def is_slow(self) -> bool: ...

        @property
        def is_usable(self) -> bool:
            """Whether its interpreter is alive, not worn out, and not upgraded since."""

        def make(self) -> Run:
            """Another run. Raises PycontainError."""

        def retire(self) -> None:
            """End when what was made has ended."""

        def close(self) -> None:
            """End, and all that was made."""


_TURN = 0.1  # seconds between looks whether a call that waits was cancelled


class Pool(Closing):
    """
    Runs Python code in copies of a prepared interpreter, up to `size` at once.

    size     how many runs there can be at once; further calls wait
    imports  modules that the interpreter has imported already

    Further arguments are those of `Sandbox`, but for the files, which are each run's own. With
    image or rootfs the interpreter is the first python3 in its PATH, Python 3.8 or later.

    Raises HostError if the interpreter does not become ready, UsageError for an impossible limit.
    """

    def __init__(
        self,
        size: int = 2,
        *,
        imports: Sequence[str] = (),
        **given: Unpack[SandboxArguments],
    ) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 100:
            raise UsageError("is not between 1 and 100", at="size", value=repr(size))
        if isinstance(imports, (str, bytes)):
            remedy = f"give [{imports!r}]"
            raise UsageError(
                "is no list of names", at="imports", value=repr(imports), remedy=remedy
            )
        self._setup = Setup(given)
        if (isolation := self._setup.isolation) not in ("", "namespaces"):
            why = "is not offered by a pool, whose programs are forked from one that runs"
            raise UsageError(why, at="isolation", value=repr(isolation), remedy="use Sandbox")
        self.limits = self._setup.limits
        self.size = size
        self._imports = tuple(imports)
        self._turns = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._ready: list[Run] = []
        self._coming = 0  # how many are being made for it
        self._behind: set[threading.Thread] = set()
        self._closed = False
        try:
            self._source: Source = self._new_source()
        except BaseException:
            self._setup.close()
            raise
        forks.share(self)
        try:
            for _ in range(size):
                self._ready.append(self._source.make())
            self._ready[0].await_ready()
        except BaseException:
            self.close()
            raise

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
        self._source.close()
        for thread in list(self._behind):
            thread.join()
        self._setup.close()

    def close_copy(self) -> None:
        """In a forked child: the pool is the program's, and closed here."""
        forks.unshare(self)
        self._lock = threading.Lock()  # another thread may hold it
        self._closed = True

    def run(
        self,
        code: str | bytes,
        *,
        stdin: bytes | str = b"",
        files: Mapping[str, bytes | str] | None = None,
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
        stdin: bytes | str = b"",
        files: Mapping[str, bytes | str] | None = None,
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
        stdin: bytes | str,
        files: Mapping[str, bytes | str],
        collect: Sequence[str],
        timeout: float | None,
        cancel: Cancel | None,
    ) -> SandboxResult:
        data, given = arguments.data(code, "code"), arguments.data(stdin, "stdin")
        wanted = arguments.strings(collect, "collect")
        chosen = with_timeout(self.limits, timeout)
        self._await_turn(cancel)
        try:
            run = self._take()
            try:
                run.watch.limits = chosen
                run.watch.cancel = -1 if cancel is None else cancel.fd
                for path, content in files.items():
                    run.files.write(path, content)
                run.start(data, given)
                if not self._source.is_slow:
                    self._refill()
                result = run.to_end(wanted)
            finally:
                self._give_back(run)
        finally:
            self._turns.release()
        return log.noted("pool", data, result, self._setup.record)

    def _await_turn(self, cancel: Cancel | None) -> None:
        while not self._turns.acquire(timeout=_TURN):
            if cancel is not None and cancel.is_set:
                raise Interrupted("was cancelled", at="the run")

    # --- what waits ----------------------------------------------------------------------------

    def _take(self) -> Run:
        """
        A run that waits, or a new one.

        An interpreter that has died, that has served long enough, or that was upgraded since is
        replaced before; what still runs in it goes on.
        """
        with self._lock:
            if self._closed:
                raise StateError("is closed", at="the pool")
            if not self._source.is_usable:
                self._discard_ready()
                self._source.retire()
                self._source = self._new_source()
            while self._ready:
                run = self._ready.pop(0)
                if not run.has_ended:
                    return run
                run.close()
            source = self._source
        return source.make()

    def _refill(self) -> None:
        """Have another one made."""
        with self._lock:
            if self._closed or len(self._ready) + self._coming >= self.size:
                return
            self._coming += 1
            source = self._source
        made: Run | None = None
        try:
            made = source.make()
        except PycontainError:
            pass  # the interpreter has died: the next call replaces it, or says why not
        with self._lock:
            self._coming -= 1
            wanted = not self._closed and source is self._source
            if made is not None and wanted:
                self._ready.append(made)
        if made is not None and not wanted:
            made.close()

    def _give_back(self, run: Run) -> None:
        """Throw away what is used up."""
        if not self._source.is_slow:
            run.close()
            return
        thread = threading.Thread(target=self._replace, args=(run,), name="pycontain")
        with self._lock:
            self._behind.add(thread)
        thread.start()

    def _replace(self, run: Run) -> None:
        """Throw one away, and have another one made, while the caller has its result."""
        try:
            run.close()
            self._refill()
        finally:
            with self._lock:
                self._behind.discard(threading.current_thread())

    def _discard_ready(self) -> None:
        while self._ready:
            self._ready.pop().close()

    def _new_source(self) -> Source:
        began = time.perf_counter()
        kind = Containers if self._setup.rootfs else Server
        made: Source = kind(self._setup, self._imports)
        log.LOGGER.debug("an interpreter is ready after %.3f s", time.perf_counter() - began)
        return made
