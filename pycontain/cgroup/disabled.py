"""The cgroup manager "disabled": the container stays in the cgroup of its parent."""

from __future__ import annotations

from ..errors import StateError
from . import controllers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn

    from ..plan.resources import Setting


class NoCgroup:
    """What stands for a `Cgroup` then: it can be made and removed, and holds no limit."""

    __slots__ = ()

    fd = -1  # which calls.clone3 takes for "born in the parent's"
    path = ""
    made: tuple[str, ...] = ()
    frozen = False

    def create(self, wanted: Iterable[str] = ()) -> None:
        """Nothing is made."""

    def remove(self, seconds: float = 10) -> None:
        """Nothing was made."""

    def close(self) -> None:
        """Nothing is open."""

    def write(self, settings: Iterable[Setting]) -> None:
        """Raise HostError for the first limit, which nothing could hold."""
        for setting in settings:
            raise controllers.cannot(setting, "the cgroup manager is disabled")

    def refuse(self, *_: object) -> NoReturn:
        """Raise StateError: this needs a cgroup."""
        raise StateError("has no cgroup: it was made with the cgroup manager disabled")

    enter = pids = kill = freeze = thaw = read = refuse
