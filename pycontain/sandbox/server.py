"""
The container of a pool, from outside: its start, and the start of a run in it.

The container's cgroup has one below it for the server and one for each run, so that each run is
limited, counted and killed by itself.
"""

from __future__ import annotations

import errno
import itertools
import os
import resource
import select
import socket
import threading

from ..cgroup import controllers
from ..cgroup.tree import Cgroup
from ..errors import HostError, StateError
from ..kernel.descriptors import close_owned
from ..kernel.seccomp import to_bpf
from ..lean import jsontext
from ..library import forks
from ..plan import seccomp
from ..runtime.handle import Handle
from ..spec.parse import parse
from . import configure, root
from .container import Configured

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .limits import Held, Limits

_TIME_TO_START = 60.0  # seconds, including the imports
_FLAGS = "-BISXutf8"
_MAIN = (
    'import sys; sys.path[:0] = ["/server", "/server/packages"]; '
    "from pycontain.sandbox.inside.forkserver import serve; serve()"
)


class Server:
    """
    A container with a prepared interpreter.

    runs  how many it has begun
    """

    def __init__(
        self,
        imports: Sequence[str],
        packages: Sequence[str | os.PathLike[str]],
        env: Mapping[str, str],
        held: Held,
    ) -> None:
        """Raises HostError if it does not become ready, with its output."""
        self.held = held
        self.runs = 0
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._divided: Cgroup | None = None
        self._printed = os.memfd_create("printed", os.MFD_CLOEXEC)
        with forks.making:
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            forks.share(self)
        paths, mounts = configure.packages(packages)
        args = [root.PYTHON, _FLAGS, "-c", _MAIN, ":".join(paths), *imports]
        config = configure.server(root.python_root(), args, env, [*_code(), *mounts])
        self._container = Configured(config)
        try:
            with theirs:
                streams = [theirs.fileno(), self._printed, self._printed]
                self._process = self._container.begin(streams)
            self._divide()
            self._await_ready()
        except BaseException:
            self.close()
            raise

    def _divide(self) -> None:
        """Move the server into a cgroup of its own, below the container's."""
        found = Handle(self._container.options, self._container.id).cgroup
        if not isinstance(found, Cgroup):
            raise HostError("needs cgroups", at="a pool", remedy="mount cgroup2")
        self.cgroup = self._divided = found
        own = found.below("server")
        # no controllers yet: with a process in it, the container's cgroup would become threaded
        os.mkdir(own.directory, 0o755)
        own.enter(self._process.pid)
        own.close()
        controllers.enable(found.directory, set(self.held.names))

    def _await_ready(self) -> None:
        self._socket.settimeout(_TIME_TO_START)
        try:
            self._socket.send(_filters())
            ready = self._socket.recv(16)
        except (TimeoutError, ConnectionError):
            ready = b""
        if ready != b"ready":
            printed = os.pread(self._printed, 1 << 16, 0).decode(errors="replace").strip()
            why = printed.splitlines()[-1] if printed else "it has ended"
            raise HostError(f"did not become ready: {why}", at="the interpreter of the pool")

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        watch = select.poll()
        watch.register(self._process.pidfd, select.POLLIN)
        return not watch.poll(0)

    def cgroup_for_run(self, limits: Limits) -> Cgroup:
        """A new cgroup with the limits of a run."""
        made = self.cgroup.below(f"run{next(self._numbers)}")
        os.mkdir(made.directory, 0o755)
        for name, value in self.held.files(limits):
            with open(f"{made.directory}/{name}", "w") as file:
                file.write(value)
        return made

    @staticmethod
    def remove_if_empty(cgroup: Cgroup) -> bool:
        """Remove the cgroup of a run, if its processes have gone; whether they have."""
        try:
            os.rmdir(cgroup.directory)
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            if error.errno != errno.ENOENT:  # removed with its server's container
                raise
        return True

    def begin(self, limits: Limits, uid: int, mode: str, fds: list[int]) -> None:
        """Begin a run with these descriptors (`inside.forkserver`). Raises StateError."""
        message = {
            "mode": mode,
            "uid": uid,
            "cpus": sorted(self.held.processors(limits)),
            "rlimits": [
                [getattr(resource, name), value] for name, value in self.held.rlimits(limits)
            ],
        }
        try:
            with self._lock:
                self.runs += 1
                socket.send_fds(self._socket, [jsontext.dumps(message).encode()], fds)
        except OSError:
            raise StateError("has ended", at="the interpreter of the pool") from None

    def close_copy(self) -> None:
        """In a forked child: the server must see when the program ends."""
        forks.unshare(self)
        self._socket.close()

    def close(self) -> None:
        """End it, and every run in it."""
        self.close_copy()
        if self._divided is not None:
            self._divided.close()
        try:
            self._container.delete()
        finally:
            close_owned(self, "_printed")


def _code() -> list[configure.Json]:
    """The mounts of this package and of cffi, which the server detaches once it has loaded them."""
    import _cffi_backend

    package = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    packages = os.path.dirname(os.path.realpath(_cffi_backend.__file__))
    return [
        configure.bind(package, f"{root.SERVER}/pycontain", "ro"),
        configure.bind(packages, f"{root.SERVER}/packages", "ro"),
    ]


_compiled = b""


def _filters() -> bytes:
    """The filter of system calls for runs, compiled once."""
    global _compiled
    if not _compiled:
        text = jsontext.dumps({"ociVersion": "1.2.0", "linux": {"seccomp": configure.profile()}})
        linux = parse(text).linux
        assert linux is not None
        assert linux.seccomp is not None
        _compiled = to_bpf(seccomp.profile(linux.seccomp))
    return _compiled
