"""ps: the processes of a container."""

from __future__ import annotations

from ..errors import StateError
from .handle import Handle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..options import Options


def ps(options: Options, id: str) -> list[int]:
    """
    The pids of a container's processes, as the caller sees them.

    A stopped container can have some if it has no pid namespace of its own. Raises StateError if
    a running one has no cgroup to find them by.
    """
    container = Handle(options, id)
    cgroup = container.cgroup
    if container.status == "stopped" and (cgroup is None or not cgroup.populated):
        return []
    if cgroup is None:
        raise StateError("has no cgroup to find its processes by", at="container", value=id)
    return cgroup.pids()
