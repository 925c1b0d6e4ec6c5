"""kill: a signal for the container's process. runtime.md, Kill."""

from __future__ import annotations

import _signal

from .. import os
from ..errors import KernelError, StateError
from ..spec.names import signal_number
from .container import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .options import Options


def kill(options: Options, id: str, signal: str = "SIGTERM", *, all: bool = False) -> None:
    """
    Send a signal, by name or number, to the first process, or to all of the container.

    Raises StateError for a container that is neither created nor running, UsageError for an
    unknown signal. SIGKILL alone reaches the process of a container that is being created: it is
    the way out when that hangs. And it reaches all of one without a pid namespace of its own, in
    which they would end with the first.
    """
    number = signal_number(signal)
    container = Container(options, id)
    if all or (number == _signal.SIGKILL and _has_more(container)):
        return _signal_all(container, number)
    if not (number == _signal.SIGKILL and container.state.phase == "creating" and container.alive):
        container.require("created", "running", "paused")
    pidfd = container.pidfd()
    try:
        _signal.pidfd_send_signal(pidfd, number)
    finally:
        os.close(pidfd)


def _has_more(container: Container) -> bool:
    cgroup = container.cgroup
    return container.state.shares_pids and cgroup is not None and cgroup.populated


def _signal_all(container: Container, number: int) -> None:
    """SIGKILL by the kernel at once, others one process after the other while none can fork."""
    cgroup = container.cgroup
    if cgroup is None:
        raise StateError("has no cgroup to find its processes by", at="container")
    if not os.path.isdir(cgroup.directory):
        raise container.wrong_status("stopped")
    if number == _signal.SIGKILL:
        return cgroup.kill()
    was_frozen = cgroup.frozen
    if not was_frozen:
        cgroup.freeze()
    try:
        for pid in cgroup.pids():
            _send(pid, number)
    finally:
        if not was_frozen:
            cgroup.thaw()


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it ended in between
    except OSError as error:
        raise KernelError.of("kill", error.errno or 0, f"process {pid}") from None
