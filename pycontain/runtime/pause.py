"""pause: freeze every process of a container. cgroup-v2, cgroup.freeze."""

from __future__ import annotations

from ..errors import StateError
from .handle import Handle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..options import Options


def pause(options: Options, id: str) -> None:
    """Pause a container. Raises StateError if it is not created or running or has no cgroup."""
    container = Handle(options, id, lock=True)
    with container.directory:
        container.require("created", "running")
        cgroup = container.cgroup
        if cgroup is None:
            raise StateError("has no cgroup to freeze", at="container", value=id)
        cgroup.freeze()
