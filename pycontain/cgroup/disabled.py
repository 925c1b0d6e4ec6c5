"""The cgroup manager "disabled": the container stays in the cgroup of its parent."""

from __future__ import annotations

from . import controllers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..errors import HostError
    from ..plan.resources import Setting


class NoCgroup:
    """Takes the place of a `Cgroup`, without any limits."""

    __slots__ = ()

    fd = -1  # to calls.clone3: the child starts in the cgroup of its parent

    def close(self) -> None:
        """Do nothing: no descriptor is open."""

    def write(
        self,
        settings: Iterable[Setting],
        without: Callable[[HostError], None] = controllers.refuse,
    ) -> None:
        """Call `without` with the error of each limit, which nothing could enforce."""
        for setting in settings:
            without(controllers.cannot(setting, "the cgroup manager is disabled"))
