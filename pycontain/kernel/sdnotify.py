"""
A program's readiness is passed on to systemd. sd_notify(3).

As with runc, only that: the command says READY=1, and with `--detach` or `start` the MAINPID, in
its own name; what else the container sends is not passed on.
"""

from __future__ import annotations

import _signal
import _socket

from ..errors import KernelError
from ..lean import os
from .descriptors import close_owned
from .wait import FOREVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .wait import Until

_READY = b"READY=1"
_LONGEST = 4096  # bytes of a message
_PAUSE = 0.1  # seconds between two looks whether the program has ended


def wanted() -> str:
    """The caller's socket, "" for none."""
    return os.fsdecode(os.environ.get(b"NOTIFY_SOCKET", b""))


class Proxy:
    """Listens at a name in the directory of a container. Raises KernelError if it has none."""

    def __init__(self, folder: str, name: str) -> None:
        self._child = -1
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        try:
            directory = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            path = f"/proc/self/fd/{directory}/{name}"  # the whole one can be longer than 107 bytes
            self._socket.bind(path)
            os.chmod(path, 0o777)
            os.close(directory)
        except OSError as error:
            raise KernelError.of("bind", error.errno or 0, folder) from None

    def close(self) -> None:
        """Listen no more, in a child neither."""
        self._socket.close()
        if self._child < 0:
            return
        try:
            _signal.pidfd_send_signal(self._child, _signal.SIGKILL)
            os.waitid(os.P_PIDFD, self._child, os.WEXITED)
        except (ProcessLookupError, ChildProcessError):
            pass  # it has ended, and was waited for
        close_owned(self, "_child")

    def forward(self, pidfd: int, pid: int = 0, until: Until = FOREVER) -> None:
        """Wait until the program is ready, and pass that on, or until it has ended."""
        while True:
            if until.wait(self._socket.fileno(), _PAUSE):
                if _READY in self._socket.recv(_LONGEST).split(b"\n"):
                    _send(_READY + (b"\nMAINPID=%d" % pid if pid else b""))
                    return
            elif FOREVER.wait(pidfd, 0):
                return

    def forward_aside(self, pidfd: int) -> None:
        """The same in a child of this process, until `close`."""
        pid = os.fork()
        if pid == 0:
            try:
                null = os.open("/dev/null", os.O_RDWR)
                for stream in (0, 1, 2):  # nobody waits for us at their other ends
                    os.dup2(null, stream)
                _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
                self.forward(pidfd)
            finally:
                os._exit(0)
        self._child = os.pidfd_open(pid)


def _send(message: bytes) -> None:
    """To the caller's socket; a name that begins with @ is abstract: unix(7)."""
    address = wanted()
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        socket.sendto(message, address)
    except OSError as error:
        raise KernelError.of("sendto", error.errno or 0, "NOTIFY_SOCKET") from None
    finally:
        socket.close()
