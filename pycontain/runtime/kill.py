"""kill: a signal for the container's process. runtime.md, Kill."""

from __future__ import annotations

import _signal

from ..errors import KernelError, StateError
from ..lean import os
from ..spec.names import signal_number
from .handle import Handle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..options import Options


def kill(options: Options, id: str, signal: str = "SIGTERM", *, all: bool = False) -> None:
    """
    Send a signal, by name or number, to the first process, or to all of the container.

    Raises StateError for a container that is neither created nor running, UsageError for an
    unknown signal. SIGKILL alone reaches the process of a container that is being created: it is
    the way out when that hangs. And it reaches all of one without a pid namespace of its own, in
    which they would end with the first.
    """
    number = signal_number(signal)
    container = Handle(options, id)
    if all:
        _signal_all(container, number)
        return
    if number == _signal.SIGKILL and container.state.shares_pids and _kills_all(container):
        return
    if not (number == _signal.SIGKILL and container.state.phase == "creating" and container.alive):
        container.require("created", "running", "paused")
    container.send(number)


def _kills_all(container: Handle) -> bool:
    """Kill what is in the cgroup, and the first process wherever it is; False if none is there."""
    cgroup = container.cgroup
    if cgroup is None or not cgroup.populated:
        return False
    cgroup.kill()
    try:
        container.send(_signal.SIGKILL)
    except StateError:
        pass  # it was among them
    return True


def _signal_all(container: Handle, number: int) -> None:
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
