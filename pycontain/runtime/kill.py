"""kill: send a signal to a container. runtime.md, Kill."""

from __future__ import annotations

import _signal

from ..errors import KernelError, StateError
from ..lean import os
from ..spec.names import signal_number
from .handle import Handle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..options import Options


def kill(
    options: Options, id: str, signal: str = "SIGTERM", *, all: bool = False, regex: bool = False
) -> None:
    """
    Send a signal, by name or number, to the first process of a container, or to all.

    Raises StateError for a container that is neither created nor running, UsageError for an
    unknown signal. Only SIGKILL can be sent to a container that is still being created, to end a
    create that hangs. Without a pid namespace of the container's own, SIGKILL is sent to all its
    processes: with one, they would end with the first. With regex, the id is a regular expression,
    and the signal is sent to each container that it matches.
    """
    number = signal_number(signal)
    if regex:
        from .matching import for_each

        for_each(options, id, lambda one: kill(options, one, signal, all=all))
        return
    container = Handle(options, id)
    if all:
        options.detail(f"kill: signal {number} to all processes of the cgroup")
        _signal_all(container, number)
        return
    if number == _signal.SIGKILL and container.state.shares_pids and _kills_all(container):
        return
    if not (number == _signal.SIGKILL and container.state.phase == "creating" and container.alive):
        container.require("created", "running", "paused")
    options.detail(f"kill: signal {number} to process {container.state.pid}")
    container.send(number)


def _kills_all(container: Handle) -> bool:
    """Kill what is in the cgroup, and the first process anywhere; False if the cgroup is empty."""
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
    """Send SIGKILL through cgroup.kill, others to each process while they are frozen."""
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
        pass  # it has just exited
    except OSError as error:
        raise KernelError.of("kill", error.errno or 0, f"process {pid}") from None
