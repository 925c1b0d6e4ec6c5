"""events: the resource usage of a container, and when it runs out of memory."""

from __future__ import annotations

import errno
import time

from ..cgroup.stats import stats as statistics
from ..cgroup.tree import table
from ..errors import KernelError, StateError
from ..lean import os
from .handle import Handle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from select import poll

    from ..cgroup.tree import Cgroup
    from ..options import Options


def events(
    options: Options, id: str, *, stats: bool = False, interval: float = 5.0
) -> Iterator[dict[str, object]]:
    """
    The events of a container: one "stats" now, then one each interval (seconds) until it stops.

    With stats, only the first. An "oom" event means that the out-of-memory killer has just killed a
    process. Pressure (PSI) is among the statistics.
    Raises StateError if the container is not running or has no cgroup.
    """
    container = Handle(options, id)
    container.require("created", "running", "paused")
    cgroup = container.cgroup
    if cgroup is None:
        raise StateError("has no cgroup to read statistics from", at="container", value=id)
    pidfd = container.pidfd()
    try:
        yield {"type": "stats", "id": id, "data": statistics(cgroup)}
        if not stats:
            yield from _until_it_stops(id, cgroup, pidfd, interval)
    except KernelError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV) or container.alive:
            raise  # otherwise its cgroup was deleted with it
    finally:
        os.close(pidfd)


def _until_it_stops(
    id: str, cgroup: Cgroup, pidfd: int, interval: float
) -> Iterator[dict[str, object]]:
    import select

    watch = select.poll()
    watch.register(pidfd, select.POLLIN)
    memory = _memory_events(cgroup)
    if memory >= 0:
        watch.register(memory, select.POLLPRI)  # when the file changes, if it was read before
    try:
        killed, due = _kills(memory), time.monotonic() + interval
        while True:
            ended = _wait(watch, pidfd, due)
            if (now := _kills(memory)) > killed:
                killed = now
                yield {"type": "oom", "id": id}
            if ended:
                return
            if time.monotonic() >= due:
                due = time.monotonic() + interval
                yield {"type": "stats", "id": id, "data": statistics(cgroup)}
    finally:
        if memory >= 0:
            os.close(memory)


def _memory_events(cgroup: Cgroup) -> int:
    """A descriptor of the file that counts them; -1 without the memory controller."""
    try:
        return os.open("memory.events", os.O_RDONLY | os.O_CLOEXEC, dir_fd=cgroup.fd)
    except FileNotFoundError:
        return -1


def _kills(memory: int) -> int:
    """How many processes the out-of-memory killer has killed; 0 if the cgroup was deleted."""
    try:
        text = os.pread(memory, 4096, 0).decode() if memory >= 0 else ""
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        text = ""
    return int(table(text).get("oom_kill", 0))


def _wait(watch: poll, pidfd: int, due: float) -> bool:
    """Wait until something happens, at most until then; whether the process has ended."""
    left = max(0.0, due - time.monotonic())
    return any(fd == pidfd for fd, _ in watch.poll(left * 1000))
