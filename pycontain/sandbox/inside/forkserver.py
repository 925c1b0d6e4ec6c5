"""
The first process of a pool's container: a prepared interpreter, which forks for each run.

It never runs or reads untrusted code. The program outside sends one datagram for a run, with these
descriptors, and never gets an answer from here:

    control, output, errors    of the snippet (`inside.snippet`)
    report                     receives how the run ended: status and peak, or what failed
    cgroup                     in which every process of the run is created
    files                      a file system that is mounted nowhere yet
    network                    a namespace to join, if not a new one

A run is two processes in new namespaces of processes, mounts, System V objects and networks:

    first       mounts /proc and the files, then waits for the second, and reports
    second      drops everything, loads the filter, forgets how it came here, runs the snippet

When the first process ends, the kernel kills the others. It is root without a capability, so that
the second, another user, can neither signal nor trace it.

Runs of one server have the same addresses and the same seed of hash(): they are copies of it.
"""

from __future__ import annotations

import _signal
import _socket
import gc
import os
import sys

from ...kernel import calls, net
from ...kernel import const as c
from ...kernel.mounts import Tree
from ...lean import jsontext
from . import snippet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

SOCKET = 0
_MESSAGE = 1 << 17  # bytes, at most
_FDS = 7
_REPORT = 3  # where the first process has it
_CONTROL = 3  # and the second
_NAMESPACES = c.CLONE_NEWPID | c.CLONE_NEWNS | c.CLONE_NEWIPC
_HARMLESS = c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NODEV
_NUMBERS = {"NET_ADMIN": 12, "SETGID": 6, "SETPCAP": 8, "SETUID": 7, "SYS_ADMIN": 21}


def serve() -> NoReturn:
    """Prepare, say "ready", then fork for each message until the program outside has gone."""
    socket = _socket.socket(fileno=SOCKET)
    filters = socket.recv(_MESSAGE)
    sys.path += sys.argv[1].split(":") if sys.argv[1] else []
    for name in sys.argv[2:]:
        __import__(name)
    for directory in ("/server/packages", "/server/pycontain"):
        calls.umount2(directory, c.MNT_DETACH)  # everything that is needed is loaded
    sys.path[:] = [path for path in sys.path if not path.startswith("/server")]
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)  # so that nothing must be waited for
    snippet.warm_up()
    gc.collect()
    gc.freeze()
    socket.send(b"ready")
    space = _socket.CMSG_SPACE(4 * _FDS)
    while True:
        network = net.new_namespace()  # while nobody waits: it is most of a fork's time
        message, ancillary, _, _ = socket.recvmsg(_MESSAGE, space, _socket.MSG_CMSG_CLOEXEC)
        if not message:
            os._exit(0)
        fds = memoryview(ancillary[0][2]).cast("i").tolist()
        _fork(jsontext.loads(message.decode()), [*fds, network], filters)  # one given comes first
        for fd in (*fds, network):
            os.close(fd)


def _fork(request: object, fds: list[int], filters: bytes) -> None:
    run = _Run(request, fds, filters)
    try:
        pid, pidfd = calls.clone3(_NAMESPACES, run.cgroup)
    except Exception as error:
        run.fail(error)
        return
    if pid == 0:
        try:
            run.first()
        except BaseException as error:
            run.fail(error)
        finally:
            os._exit(1)
    os.close(pidfd)


class _Run:
    """One run, in its own processes."""

    def __init__(self, request: object, fds: list[int], filters: bytes) -> None:
        assert isinstance(request, dict)
        self.request: dict[str, object] = request
        self.control, self.output, self.errors, self.report = fds[:4]
        self.cgroup, self.files, self.network = fds[4:7]
        self.filters = filters

    def fail(self, error: BaseException) -> None:
        """Report what went wrong before the snippet began."""
        os.write(self.report, f"{type(error).__name__}: {error}\n".encode())

    # --- the first process ---------------------------------------------------------------------

    def first(self) -> NoReturn:
        """Isolate, fork the second process, wait for its end, and report it."""
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        self._mount()
        calls.unshare(c.CLONE_NEWCGROUP)  # its root is this run's cgroup
        calls.setns(self.network, c.CLONE_NEWNET)
        pid = os.fork()
        if pid == 0:
            try:
                self._second()
            except BaseException as error:
                self.fail(error)
            finally:
                os._exit(1)
        calls.capset(0, 0, 0)
        os.dup2(self.report, _REPORT)
        os.close(0)
        calls.close_range(_REPORT + 1)
        while True:
            ended, status, usage = os.wait4(-1, 0)  # orphans, too
            if ended == pid:
                break
        os.write(_REPORT, f"{status} {usage.ru_maxrss << 10}\n".encode())
        os._exit(0)

    def _mount(self) -> None:
        Tree.new("proc", ("subset=pid",), _HARMLESS | c.MOUNT_ATTR_NOEXEC).attach(_at("/proc"))
        Tree(self.files).attach(_at("/tmp"))  # only mounted here its parts can be mounted again
        for name, place in (("work", "/work"), ("shm", "/dev/shm"), ("tmp", "/tmp")):
            part = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.files)
            Tree.clone(part).attach(_at(place))

    # --- the second process --------------------------------------------------------------------

    def _second(self) -> NoReturn:
        os.setsid()
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        self._take_streams()
        self._drop()
        os.chdir("/work")
        _reseed()
        _forget()
        gc.enable()
        snippet.main(_CONTROL, str(self.request["mode"]))
        os._exit(1)

    def _take_streams(self) -> None:
        null = os.open(os.devnull, os.O_RDONLY)
        high = [os.dup(fd) for fd in (null, self.output, self.errors, self.control)]
        for number, fd in enumerate(high):
            os.dup2(fd, number, inheritable=number != _CONTROL)

    def _drop(self) -> None:
        request = self.request
        limits, cpus, uid = request["rlimits"], request["cpus"], request["uid"]
        assert isinstance(limits, list)
        assert isinstance(cpus, list)
        assert isinstance(uid, int)
        for number, value in limits:
            calls.prlimit(0, number, value, value)
        if cpus:
            os.sched_setaffinity(0, cpus)
        calls.drop_from_bounding_set(_NUMBERS.values())
        calls.set_identity(uid, uid, ())
        calls.capset(0, 0, 0)
        calls.prctl(c.PR_SET_DUMPABLE, 1, name="PR_SET_DUMPABLE")  # its /proc/self is its own
        calls.prctl(c.PR_SET_NO_NEW_PRIVS, 1, name="PR_SET_NO_NEW_PRIVS")
        os.umask(0o022)
        calls.close_range(_CONTROL + 1)
        calls.seccomp_filter(self.filters, 0)


def _at(path: str) -> int:
    """A descriptor of a mount point."""
    return os.open(path, os.O_PATH | os.O_CLOEXEC)


def _reseed() -> None:
    """Numbers that look random must differ between runs; `random` has been reseeded by fork."""
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def _forget() -> None:
    """The snippet gets an interpreter without our modules."""
    sys.argv = [""]
    for name in list(sys.modules):
        top = name.partition(".")[0]
        if top in ("pycontain", "_cffi_backend", "__main__"):
            del sys.modules[name]
