"""`pycontain.run` and `pycontain.Container`."""

from __future__ import annotations

import itertools
import os
import time

from ..errors import PycontainError, StateError, Timeout
from ..lean import jsontext
from ..options import Options
from ..runtime.bundle import Bundle
from ..runtime.delete import delete
from ..runtime.handle import Handle
from ..runtime.kill import kill
from ..runtime.pause import pause
from ..runtime.resume import resume
from ..runtime.start import start
from ..runtime.update import update
from .pipes import Pipes
from .pool import Pool
from .result import Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from .messages import Message
    from .pool import Process, Worker
    from .result import Reason


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
        with Pipes(stdin, capture) as pipes:
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
        request: Message = {
            "verb": "exec",
            "args": list(args),
            "env": [f"{name}={value}" for name, value in (env or {}).items()],
            "cwd": cwd,
        }
        with Pipes(stdin, capture) as pipes:
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
        return Handle(self.options, self.id).public()

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

    # --- internals -----------------------------------------------------------------------------

    def _made(self, verb: str, streams: list[int]) -> Process:
        request: Message = {"verb": verb, "bundle": self.bundle, "config": self._config}
        before, self._ours = self._ours, True
        try:
            return self._ask(request, streams)
        except PycontainError:  # what could not be made was undone
            self._ours = before
            raise

    def _ask(self, request: Message, streams: list[int]) -> Process:
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

    def _result(self, process: Process, pipes: Pipes, began: float) -> Result:
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
        cgroup = Handle(self.options, self.id).cgroup
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


_numbers = itertools.count(1)
_pool = Pool()
