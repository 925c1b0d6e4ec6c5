"""ps: the processes of a container."""

from __future__ import annotations

from ..errors import StateError
from .container import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .options import Options


def ps(options: Options, id: str) -> list[int]:
    """
    The pids of a container's processes, as the caller sees them; none when it is stopped.

    Raises StateError when it has no cgroup to find them by.
    """
    container = Container(options, id)
    if container.status == "stopped":
        return []
    cgroup = container.cgroup
    if cgroup is None:
        raise StateError("has no cgroup to find its processes by", at="container", value=id)
    return cgroup.pids()
