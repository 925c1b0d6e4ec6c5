"""A run in a container of its own: one of `Sandbox`, which shares only the files with others."""

from __future__ import annotations

import os
import socket

from ..cgroup.tree import Cgroup
from ..errors import HostError
from ..library import forks
from ..library.cancel import Limit
from ..library.container import Container
from ..runtime.handle import Handle
from . import root
from .supervise import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.wait import Until
    from ..library.messages import Message
    from ..library.process import Process
    from .files import Files
    from .limits import Held, Limits
    from .namespace import Namespace
    from .result import SandboxResult


class Configured(Container):
    """
    A container from the text of a configuration.

    mounts  a descriptor of a mount namespace that its paths are in, -1 for this program's
    """

    def __init__(self, config: str, mounts: int = -1) -> None:
        super().__init__(root.BASE)
        self._text = config
        self._mounts = mounts

    def begin(self, streams: list[int]) -> Process:
        """Create and start it with these standard streams; returns its first process."""
        self._process = self._create("run", streams, Limit(None))
        return self._process

    def _config(self, _: Until) -> str:
        return self._text

    def _ask(self, request: Message, streams: list[int], until: Limit) -> Process:
        inherited = streams if self._mounts < 0 else [*streams, self._mounts]
        return super()._ask(request, inherited, until)


class Contained:
    """A run in a container; `close` ends it and leaves nothing."""

    def __init__(self, config: str, mounts: Namespace, files: Files, limits: Limits, held: Held):
        self._container = Configured(config, mounts.fd)
        self._parts = limits, held, files
        self._fds: list[int] = []
        self._cgroup: Cgroup | None = None
        self._stopped = False
        self.watch: Watch

    def stop(self) -> None:
        """End it, from another thread, even if it only begins."""
        self._stopped = True
        if self._cgroup is not None:
            self.watch.stop("cancelled")

    def begin_program(self, stdin: bytes) -> None:
        """Begin a program that reads this. Raises ProgramError and other PycontainErrors."""
        if stdin:
            given = os.memfd_create("stdin", os.MFD_CLOEXEC)
            with open(given, "wb", closefd=False) as file:
                file.write(stdin)
            os.lseek(given, 0, os.SEEK_SET)
            os.fchmod(given, 0o444)
        else:
            given = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._begin(given, -1)

    def begin_python(self) -> None:
        """Begin an interpreter that reads code from a socket (`inside.snippet`)."""
        ours, theirs = socket.socketpair()
        self._begin(theirs.detach(), ours.detach())

    def _begin(self, stdin: int, control: int) -> None:
        with forks.making:
            output, theirs_output = os.pipe2(os.O_CLOEXEC)
            errors, theirs_errors = os.pipe2(os.O_CLOEXEC)
            self._fds = [output, errors, *([control] if control >= 0 else [])]
            forks.share(self)
        limits, held, files = self._parts
        try:
            process = self._container.begin([stdin, theirs_output, theirs_errors])
        except BaseException:
            self.close()
            raise
        finally:
            for fd in (stdin, theirs_output, theirs_errors):
                os.close(fd)
        self._process = process
        made = self._container
        cgroup = Handle(made.options, made.id, state=process.state).cgroup
        if not isinstance(cgroup, Cgroup):
            self.close()
            raise HostError("needs cgroups", at="a sandbox", remedy="mount cgroup2")
        self.watch = Watch(limits, held, files, cgroup)
        self.watch.ended, self.watch.control = process.pidfd, control
        self.watch.outputs = [(output, bytearray()), (errors, bytearray())]
        self._cgroup = cgroup
        if self._stopped:
            self.stop()

    def result(self) -> SandboxResult:
        """How it ended."""
        return self.watch.result(*self._process.status())

    def close_copy(self) -> None:
        """In a forked child: close what belongs to the program."""
        forks.unshare(self)
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    def close(self) -> None:
        """End it, if it has not ended, and delete the container."""
        self._container.delete()
        self.close_copy()
        if self._cgroup is not None:
            self._cgroup.close()
