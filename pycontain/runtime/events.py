"""events: the resource usage of a container, and when it runs out of memory."""

from __future__ import annotations

import time

from ..cgroup.stats import stats as statistics
from ..errors import StateError
from .handle import Handle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..options import Options


def events(
    options: Options, id: str, *, stats: bool = False, interval: float = 5.0
) -> Iterator[dict[str, object]]:
    """
    The events of a container: one "stats" now, then one each interval (seconds) until it stops.

    With stats, only the first. An "oom" event means that the out-of-memory killer killed a process.
    Raises StateError if the container is not running or has no cgroup.
    """
    container = Handle(options, id)
    container.require("created", "running", "paused")
    cgroup = container.cgroup
    if cgroup is None:
        raise StateError("has no cgroup to read statistics from", at="container", value=id)
    killed = cgroup.oom_kills() or 0
    yield {"type": "stats", "id": id, "data": statistics(cgroup)}
    while not stats:
        time.sleep(interval)
        if not container.alive:
            return
        if (now := cgroup.oom_kills() or 0) > killed:
            killed = now
            yield {"type": "oom", "id": id}
        yield {"type": "stats", "id": id, "data": statistics(cgroup)}
