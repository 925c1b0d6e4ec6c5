"""A container without a cgroup of its own, which stays in the cgroup of its parent."""

from __future__ import annotations

from . import controllers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..errors import HostError
    from ..options import Options
    from ..plan.resources import Setting


class NoCgroup:
    """
    Takes the place of a `Cgroup`, without any limits.

    why     there is none, for the errors of limits
    remedy  what can be done about it
    """

    __slots__ = ("remedy", "why")

    def __init__(
        self, why: str = "the cgroup manager is disabled", remedy: str = "remove the limit"
    ) -> None:
        self.why = why
        self.remedy = remedy

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
            without(controllers.cannot(setting, self.why, self.remedy))


def log_unfiltered(options: Options, rules: int) -> None:
    """Log that device rules are not enforced: their filter needs a cgroup."""
    if rules:
        options.detail(f"linux.resources.devices: {rules} rules are not enforced without a cgroup")
