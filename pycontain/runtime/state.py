"""state: the state of a container. runtime.md, Query State."""

from __future__ import annotations

from .handle import Handle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..options import Options


def state(options: Options, id: str) -> dict[str, object]:
    """The state of a container. Raises StateError if it does not exist."""
    return Handle(options, id).public()
