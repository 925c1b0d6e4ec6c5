"""Writing limits all or nothing: if one is refused, those written before are restored."""

from __future__ import annotations

import errno

from ..errors import KernelError
from . import controllers
from .tree import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..errors import HostError
    from ..plan.resources import Setting

# What resets an entry of a nested keyed file, by the file's name.
_UNSET = {
    "io.max": "rbps=max wbps=max riops=max wiops=max",
    "io.weight": "default",
    "io.bfq.weight": "default",
}


class Restorable:
    """
    A cgroup, and what its files contained before this object wrote to them.

    All writes are undone in reverse order, not each file once: between two values of cpu.max, a
    burst that neither of them allows may have been reset.
    """

    def __init__(self, cgroup: Cgroup) -> None:
        self.cgroup = cgroup
        self._before: list[tuple[str, str]] = []

    def write(
        self,
        settings: Iterable[Setting],
        without: Callable[[HostError], None] = controllers.refuse,
    ) -> None:
        """As `Cgroup.write`."""
        for setting in settings:
            self.remember((setting,))
            self.cgroup.write((setting,), without)

    def restore(self) -> None:
        """Write the old values again. Raises KernelError for the first that is refused."""
        while self._before:
            file, text = self._before.pop()
            now = self.cgroup.read(file)
            if now != text:
                for line in lines(file, text, now):
                    self.cgroup.put(file, line)

    def remember(self, settings: Iterable[Setting]) -> None:
        """Remember the content of the files that these settings will be written to."""
        for setting in settings:
            each: Setting | None = setting
            while each is not None:
                try:
                    self._before.append((each.file, self.cgroup.read(each.file)))
                except KernelError as error:
                    # no such file, or a core file that can only be written
                    if error.errno not in (errno.ENOENT, errno.EINVAL, errno.EACCES):
                        raise
                each = each.otherwise


def lines(file: str, text: str, now: str) -> list[str]:
    """The lines to write, one at a time, to restore a text in a file that now contains `now`."""
    old = text.splitlines() if text.strip() else ["\n"]  # cpuset.cpus: "" would write nothing
    if file not in _UNSET:
        return old
    kept = {line.split(" ")[0] for line in text.splitlines()}
    new = (line.split(" ")[0] for line in now.splitlines())
    unset = [f"{key} {_UNSET[file]}" for key in new if key not in kept]
    return [*unset, *(line for line in old if line.strip())]
