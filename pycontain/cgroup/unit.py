"""The cgroup of a unit: systemd creates it, limits it and removes it."""

from __future__ import annotations

import errno

from ..errors import KernelError
from ..kernel.wait import FOREVER
from ..lean import os
from .tree import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..plan.resources import Setting
    from .systemd import Manager, Property

_GONE = (errno.ENOENT, errno.ENODEV)


class UnitCgroup(Cgroup):
    """
    The cgroup of a unit, which need not be started yet.

    made     its path, once the unit is ours
    unit     the unit's name
    user     whether it belongs to the user's systemd
    manager  the connection to that systemd; made when it is needed if None
    """

    __slots__ = ("_manager", "_waits", "unit", "user")

    def __init__(
        self,
        mount: str,
        path: str,
        unit: str,
        *,
        user: bool,
        made: tuple[str, ...] = (),
        manager: Manager | None = None,
    ) -> None:
        super().__init__(mount, path, made)
        self.unit = unit
        self.user = user
        self._manager = manager
        self._waits = manager is not None

    @property
    def fd(self) -> int:
        """As in Cgroup, but -1 before the unit is started, so that no child is created in it."""
        return -1 if self._waits else super().fd

    def start(self, properties: Iterable[Property]) -> None:
        """Start the unit. Raises HostError, Timeout, and Refusal if there is one of that name."""
        from .systemd import Refusal

        self._waits = False
        try:
            self._systemd().start(self.unit, properties)
        except Refusal:
            raise
        except BaseException:
            self.made = (self.path,)
            raise
        self.made = (self.path,)
        self.remember()

    def enter(self, pid: int) -> None:
        """Move a process into the cgroup, through systemd if we are not permitted to."""
        try:
            super().enter(pid)
        except KernelError as error:
            if error.errno != errno.EACCES:
                raise
            self._systemd().attach(self.unit, pid)

    def change(self, settings: Iterable[Setting]) -> None:
        """Set the unit's properties for those limits that have one. Raises HostError."""
        from ..plan.systemd import limits

        self._systemd().change(self.unit, limits(settings))

    def clear(self) -> None:
        """Kill what is left, and stop the unit if it is ours. Raises Timeout if some remain."""
        if self.made and os.path.isdir(self.directory):  # a scope ends with its last process
            self._kill_all()
            self._systemd().stop(self.unit)
        self.remove()

    def close(self) -> None:
        """Close descriptor and connection; the next use opens them again."""
        super().close()
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def _kill_all(self, seconds: float = 10) -> None:
        try:
            self.kill()
            self._wait_for_end(seconds)
        except (KernelError, OSError) as error:  # systemd has removed it meanwhile
            if error.errno not in _GONE:
                raise

    def _systemd(self) -> Manager:
        if self._manager is None:
            from .systemd import Manager

            self._manager = Manager(user=self.user, until=FOREVER)
        return self._manager
