"""resume: thaw a paused container. cgroup-v2, cgroup.freeze."""

from __future__ import annotations

from ..errors import StateError
from .handle import Handle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..options import Options


def resume(options: Options, id: str) -> None:
    """Resume a container. Raises StateError if it is not paused or has no cgroup."""
    container = Handle(options, id, lock=True)
    with container.directory:
        container.require("paused")
        cgroup = container.cgroup
        if cgroup is None:
            raise StateError("has no cgroup to thaw", at="container", value=id)
        cgroup.thaw()
