"""`Sandbox`: files that stay, and programs in containers of their own that work on them."""

from __future__ import annotations

import os
import threading

from ..errors import ProgramError, StateError, UsageError
from ..library import arguments, forks
from ..library.aio import in_thread
from ..library.closing import Closing
from . import log, users
from .files import Files
from .limits import with_timeout
from .namespace import Namespace
from .session import Session
from .setup import Setup
from .stream import Stream
from .supervise import request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn, Unpack

    from ..library.cancel import Cancel
    from .container import Contained
    from .files import Entry
    from .network import Network
    from .result import SandboxResult
    from .setup import SandboxArguments


class Sandbox(Closing):
    r"""
    A place for untrusted programs: files in memory, and what runs on them.

        with pycontain.Sandbox(files={"in.csv": b"b\na\n"}) as box:
            print(box.run_python("sorted(open('in.csv'))").value)

    Each program runs in a container of its own, as a user that nothing else has, without
    capabilities, without a network, on a root file system that is read-only. What it leaves in
    /work and /tmp is there for the next one; its processes are not.

    python    the root file system has this interpreter, with its standard library and nothing
              else; so it is by default
    image     it is that of an image, as skopeo names it: "oci:DIRECTORY", "docker://NAME", …
    rootfs    it is this directory, which nothing is written to
    files     what /work has at the beginning
    packages  directories of the host with Python packages, which are seen read-only
    network   None for a loopback device alone, "host" for the host's network, or a list of the
              places, "HOST:PORT", that a proxy lets it connect to; "*.HOST" stands for all below
    isolation  "kvm" for a virtual machine inside the container of each program, "emulate" for an
              emulated processor, which is slow; "namespaces" by default
    env       further environment variables
    record    a file to which a line of JSON is added for each run (`sandbox.log`)
    memory, cpus, pids, disk, open_files, timeout, cpu, output
              the limits of each run (`Limits`); None for the default, 0 for none

    Raises UsageError for what cannot be, HostError for what this host does not have, TypeError for
    an argument that does not exist.
    """

    def __init__(
        self,
        *,
        files: Mapping[str, bytes | str] | None = None,
        **given: Unpack[SandboxArguments],
    ) -> None:
        self._setup = Setup(given)
        self.limits = self._setup.limits
        self._running: set[Contained] = set()
        self._changed = threading.Condition()  # of what runs
        self._uid = users.take()
        self._files = Files(self.limits.disk, self._uid)
        self._proxy: Network | None = None
        self._closed = False
        forks.share(self)
        try:
            self._proxy = self._setup.network()
            self._mounts = Namespace(self._files, self._setup.rootfs)
            for path, data in (files or {}).items():
                self.write(path, data)
        except BaseException:
            self._release()
            raise

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Sandbox belongs to one process: make one in each")

    def close(self) -> None:
        """End what runs, and forget the files."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            for each in self._running:
                each.stop()
            while self._running:
                self._changed.wait()
        self._mounts.close()
        self._release()

    def close_copy(self) -> None:
        """In a forked child: the sandbox is the program's, and closed here."""
        forks.unshare(self)
        self._changed = threading.Condition()  # another thread may hold it
        self._closed = True
        self._mounts.close()
        self._files.close()
        if self._proxy is not None:
            self._proxy.close_copy()

    def _release(self) -> None:
        forks.unshare(self)
        self._files.close()
        users.give(self._uid)
        self._setup.close()
        if self._proxy is not None:
            self._proxy.close()

    # --- files ---------------------------------------------------------------------------------

    def read(self, path: str | os.PathLike[str], limit: int = 64 << 20) -> bytes:
        """
        The content of a file below /work or /tmp; relative paths start in /work.

        Links lead nowhere outside. Raises StateError for what is not a regular file or is longer
        than limit bytes, UsageError for another place, KernelError.
        """
        return self._open_files().read(path, limit)

    def write(self, path: str | os.PathLike[str], data: bytes | str) -> None:
        """
        Create or replace a file, and directories that are missing; text is written as UTF-8.

        Raises as `read` does.
        """
        self._open_files().write(path, data)

    def _open_files(self) -> Files:
        if self._closed:
            raise StateError("is closed", at="the sandbox")
        return self._files

    # --- programs ------------------------------------------------------------------------------

    def run(
        self,
        args: Sequence[str],
        *,
        stdin: bytes | str = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] = "/work",
        timeout: float | None = None,
    ) -> SandboxResult:
        """
        Run a program, to its end.

        A limit that ends it is the reason of the result; nothing is raised for it. Raises
        ProgramError if it cannot be executed, and other PycontainErrors.
        """
        return self._run(args, stdin, env, cwd, timeout, None)

    async def run_async(
        self,
        args: Sequence[str],
        *,
        stdin: bytes | str = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] = "/work",
        timeout: float | None = None,
    ) -> SandboxResult:
        """As `run`, in an asyncio task; cancelling it ends the program at once."""
        return await in_thread(lambda cancel: self._run(args, stdin, env, cwd, timeout, cancel))

    def run_python(
        self, code: str | bytes, *, stdin: bytes | str = b"", timeout: float | None = None
    ) -> SandboxResult:
        """Run Python code in an interpreter of its own, to its end; as `run`."""
        return self._run_python(code, stdin, timeout, None)

    async def run_python_async(
        self, code: str | bytes, *, stdin: bytes | str = b"", timeout: float | None = None
    ) -> SandboxResult:
        """As `run_python`, in an asyncio task; cancelling it ends the code at once."""
        return await in_thread(lambda cancel: self._run_python(code, stdin, timeout, cancel))

    def stream(
        self,
        args: Sequence[str],
        *,
        stdin: bytes | str = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] = "/work",
        timeout: float | None = None,
    ) -> Stream:
        """Run a program, and iterate over the lines of its output while it runs."""
        given = arguments.data(stdin, "stdin")
        contained = self._contained(args, env, cwd, timeout)
        self._begin(contained, given)
        what = _words(args)
        return Stream(
            contained, lambda cancel: self._to_end(contained, b"", "stream", what, cancel)
        )

    def session(self, *, timeout: float | None = None) -> Session:
        """
        An interpreter that keeps its variables, imports and working directory.

        timeout  seconds of each piece of code, instead of the sandbox's
        """
        contained = self._contained(self._setup.python("session"), None, "/work", timeout)
        self._begin(contained, None)
        return Session(contained, self._setup.record, lambda: self._forget(contained))

    # --- internals -----------------------------------------------------------------------------

    def _run(
        self,
        args: Sequence[str],
        stdin: bytes | str,
        env: Mapping[str, str] | None,
        cwd: str | os.PathLike[str],
        timeout: float | None,
        cancel: Cancel | None,
    ) -> SandboxResult:
        given = arguments.data(stdin, "stdin")
        contained = self._contained(args, env, cwd, timeout)
        self._begin(contained, given)
        return self._to_end(contained, b"", "run", _words(args), cancel)

    def _run_python(
        self, code: str | bytes, stdin: bytes | str, timeout: float | None, cancel: Cancel | None
    ) -> SandboxResult:
        data = arguments.data(code, "code")
        wanted = request(data, arguments.data(stdin, "stdin"))
        contained = self._contained(self._setup.python("once"), None, "/work", timeout)
        self._begin(contained, None)
        return self._to_end(contained, wanted, "python", data, cancel)

    def _contained(
        self,
        args: Sequence[str],
        env: Mapping[str, str] | None,
        cwd: str | os.PathLike[str],
        timeout: float | None,
    ) -> Contained:
        """A run that has not begun. Raises UsageError."""
        if isinstance(args, (str, bytes)) or not args:
            raise UsageError(
                "is not a list of words", at="args", value=repr(args), remedy='write ["ls", "-l"]'
            )
        arguments.environment(env)
        return self._setup.contained(
            arguments.command(args, shell=False), self._uid, with_timeout(self.limits, timeout),
            self._files, self._mounts, self._proxy, env=env, cwd=self._directory(cwd),
        )  # fmt: skip

    def _directory(self, cwd: str | os.PathLike[str]) -> str:
        """A directory that exists: the runtime would create a missing one in the shared root."""
        path = arguments.path(cwd, "cwd")
        if not (self._files.has(path) or self._setup.has(path)):
            remedy = "give the path of one, such as /work, or write a file into it first"
            raise UsageError(
                "is not a directory of the sandbox", at="cwd", value=path, remedy=remedy
            )
        return path

    def _begin(self, contained: Contained, stdin: bytes | None) -> None:
        """Begin a run: a program that reads stdin, or without it an interpreter for code."""
        with self._changed:
            if self._closed:
                raise StateError("is closed", at="the sandbox")
            self._running.add(contained)
        try:
            if stdin is None:
                contained.begin_python()
            else:
                contained.begin_program(stdin)
        except BaseException as error:
            self._forget(contained)
            if isinstance(error, ProgramError) and _is_missing(error) and not self._setup.rootfs:
                error.fault.remedy = "there is Python alone: give rootfs= or image="
            raise

    def _to_end(
        self,
        contained: Contained,
        data: bytes,
        kind: str,
        what: bytes,
        cancel: Cancel | None = None,
    ) -> SandboxResult:
        try:
            contained.watch.cancel = -1 if cancel is None else cancel.fd
            contained.watch.begin(data)
            contained.watch.serve()
            result = contained.result()
        finally:
            contained.close()
            self._forget(contained)
        return log.noted(kind, what, result, self._setup.record)

    def _forget(self, contained: Contained) -> None:
        with self._changed:
            self._running.discard(contained)
            self._changed.notify_all()

    def list(
        self, path: str | os.PathLike[str] = "/work"
    ) -> list[Entry]:  # last: it hides the type of this name
        """What a directory contains, by name. Raises as `read` does."""
        return self._open_files().list(path)


def _is_missing(error: ProgramError) -> bool:
    """Whether there is no such program; one that cannot be executed is another matter."""
    return error.fault.status == ProgramError.status


def _words(args: Sequence[str]) -> bytes:
    return os.fsencode(" ".join(args))
