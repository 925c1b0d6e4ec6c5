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
from .fork import Copy
from .setup import FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .limits import Limits
    from .setup import Setup

_TIME_TO_START = 60.0  # seconds, including the imports
_RUNS = 5000  # of one server: its copies share their addresses and the seed of hash()
_MAIN = (
    'import sys; sys.path[:0] = ["/server", "/server/packages"]; '
    "from pycontain.sandbox.inside.forkserver import serve; serve()"
)


class Server:
    """
    A container with a prepared interpreter.

    runs     how many it has begun
    is_slow  a copy is made within a millisecond
    """

    is_slow = False

    def __init__(self, setup: Setup, imports: Sequence[str]) -> None:
        """Raises HostError if it does not become ready, with its output."""
        self._setup = setup
        self.held = setup.held
        self.runs = 0
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._living = 0  # runs that have not been closed
        self._spent: list[Cgroup] = []
        self._retired = False
        self._divided: Cgroup | None = None
        self._printed = os.memfd_create("printed", os.MFD_CLOEXEC)
        with forks.making:
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            forks.share(self)
        self._root = root.python_root()
        args = [root.PYTHON, FLAGS, "-c", _MAIN, ":".join(setup.paths), *imports]
        mounts = [*_code(), *setup.packages]
        config = configure.server(self._root, args, setup.env, mounts)
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
    def is_usable(self) -> bool:
        """Whether it runs, has not served too many, and is still this program's interpreter."""
        watch = select.poll()
        watch.register(self._process.pidfd, select.POLLIN)
        if watch.poll(0) or self.runs >= _RUNS:
            return False
        return root.python_root() == self._root

    def make(self) -> Copy:
        """Another copy. Raises StateError, KernelError."""
        with self._lock:
            self._living += 1
        try:
            return Copy(self, self._setup)
        except BaseException:
            self._one_less()
            raise

    def has_ended(self, cgroup: Cgroup) -> None:
        """A copy was closed; its cgroup is removed once its processes have gone."""
        with self._lock:
            spent, self._spent = [*self._spent, cgroup], []
        left = [each for each in spent if not self.remove_if_empty(each)]
        with self._lock:
            self._spent += left
        self._one_less()

    def _one_less(self) -> None:
        with self._lock:
            self._living -= 1
            is_last = self._retired and not self._living
        if is_last:
            self.close()

    def retire(self) -> None:
        """End once the last copy was closed."""
        with self._lock:
            self._retired = True
            is_idle = not self._living
        if is_idle:
            self.close()

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
