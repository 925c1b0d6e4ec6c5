"""The cgroup manager "disabled": the container stays in the cgroup of its parent."""

from __future__ import annotations

from . import controllers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..plan.resources import Setting


class NoCgroup:
    """What stands for a `Cgroup` then: it holds no limit."""

    __slots__ = ()

    fd = -1  # which calls.clone3 takes for "born in the parent's"

    def close(self) -> None:
        """Nothing is open."""

    def write(self, settings: Iterable[Setting]) -> None:
        """Raise HostError for the first limit, which nothing could hold."""
        for setting in settings:
            raise controllers.cannot(setting, "the cgroup manager is disabled")
