"""
The runs of a pool on an image: containers that wait, each with an interpreter that has started.

Nothing of an image is trusted, its interpreter neither, so none of its processes could fork and
confine the others, as `inside.forkserver` does. Each run has a container of its own, made before
it is needed, and thrown away after one run.
"""

from __future__ import annotations

import os
import select
import threading

from ..errors import HostError, Interrupted
from . import interpreter, users
from .files import Files
from .namespace import Namespace
from .supervise import request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .result import SandboxResult
    from .setup import Setup
    from .supervise import Watch

_READY = b"ready"
_TIME_TO_START = 60.0  # seconds, including the imports


class Prepared:
    """A container whose interpreter waits for its code: the run, its files and its network."""

    def __init__(
        self, setup: Setup, imports: Sequence[str], forget: Callable[[Prepared], None]
    ) -> None:
        """
        Have it started; its imports are not waited for.

        forget  is called when it is closed

        Raises PycontainError.
        """
        self._forget = forget
        self.uid = users.take()
        self.files = Files(setup.limits.disk, self.uid)
        self._network = setup.network()
        self._is_ready = False
        try:
            self._mounts = Namespace(self.files, setup.rootfs)
            self._contained = setup.contained(
                setup.python("prepared", imports),
                self.uid,
                setup.limits.replace(cpu=0.0),  # what is imported is not counted
                self.files,
                self._mounts,
                self._network,
            )
            self._contained.begin_python()
        except BaseException:
            self._release()
            raise

    @property
    def watch(self) -> Watch:
        """What it reads and writes, and its limits."""
        return self._contained.watch

    @property
    def has_ended(self) -> bool:
        """Whether its interpreter has ended before it got any code."""
        return self._is_ready and _is_readable(self.watch.ended)

    def await_ready(self) -> None:
        """Wait until it has started. Raises HostError with what it has printed, Interrupted."""
        if self._is_ready:
            return
        watch = self.watch
        poll = select.poll()
        for fd in (watch.control, watch.ended, watch.cancel):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        ready = dict(poll.poll(_TIME_TO_START * 1000))
        if watch.cancel in ready:
            raise Interrupted("was cancelled", at="the run")
        if watch.control not in ready or os.read(watch.control, len(_READY)) != _READY:
            printed = _last_line(watch.outputs[1][0]) or "it has ended"
            why = f"did not become ready: {printed}"
            raise HostError(why, at="the interpreter of the pool")
        self._is_ready = True

    def start(self, code: bytes, stdin: bytes) -> None:
        """Send the code. Raises as `await_ready`."""
        self.await_ready()
        self.watch.begin(request(code, stdin))

    def to_end(self, collect: Sequence[str]) -> SandboxResult:
        """Watch it until it has ended."""
        self.watch.serve()
        result = self._contained.result()
        found = self.files.collected(collect)
        return result.replace(files=found) if found else result

    def stop(self) -> None:
        """End it, from another thread."""
        self._contained.stop()

    def close(self) -> None:
        """End it, if it has not ended, and delete its container."""
        self._forget(self)
        self._contained.close()
        self._mounts.close()
        self._release()

    def _release(self) -> None:
        self.files.close()
        if self._network is not None:
            self._network.close()
        users.give(self.uid)


class Containers:
    """
    Makes them, and knows which there are.

    is_slow  making one takes as long as a container and the start of an interpreter
    """

    is_slow = True

    def __init__(self, setup: Setup, imports: Sequence[str]) -> None:
        """Raises HostError if there is no interpreter that can serve, or an import fails."""
        self._setup = setup
        self._imports = imports
        self._interpreter = interpreter.identity(setup.rootfs, setup.env)
        self._lock = threading.Lock()
        self._made: set[Prepared] = set()

    @property
    def is_usable(self) -> bool:
        """Whether the image, or directory, still has the interpreter that was started."""
        return interpreter.identity(self._setup.rootfs, self._setup.env) == self._interpreter

    def make(self) -> Prepared:
        """Another one. Raises PycontainError."""
        made = Prepared(self._setup, self._imports, self._forget)
        with self._lock:
            self._made.add(made)
        return made

    def _forget(self, run: Prepared) -> None:
        with self._lock:
            self._made.discard(run)

    def retire(self) -> None:
        """What runs goes on: each ends by itself."""

    def close(self) -> None:
        """End what runs."""
        with self._lock:
            for run in self._made:
                run.stop()


def _is_readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _last_line(fd: int) -> str:
    """What was printed last."""
    os.set_blocking(fd, False)
    try:
        text = os.read(fd, 1 << 16).decode(errors="replace").strip()
    except BlockingIOError:
        return ""
    return text.splitlines()[-1] if text else ""
