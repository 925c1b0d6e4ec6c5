"""An existing container: its state directory and the current status of its process."""

from __future__ import annotations

import _signal

from ..errors import KernelError, StateError
from ..kernel.files import read_bytes, start_time
from ..lean import os
from ..state.directory import StateDir
from ..state.record import public_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..cgroup.tree import Cgroup
    from ..options import Options
    from ..state.record import State


_REMEDIES = {  # for a container whose status a command cannot work with
    "creating": "wait until it is created",
    "created": "start it first",
    "paused": "resume it first",
    "stopped": "delete it, and create it again",
}


class Handle:
    """
    A container that exists.

    directory  its state directory
    state      the content of its files
    """

    __slots__ = ("directory", "state")

    def __init__(
        self,
        options: Options,
        id: str,
        *,
        lock: bool = False,
        state: State | None = None,
        directory: StateDir | None = None,
    ) -> None:
        """
        With lock, wait for the lock, which the caller must release.

        state may be passed by a caller that knows it; it is read anyway if the file of the process
        does not match it. directory is passed if it is open already. Raises StateError if the
        container does not exist.
        """
        self.directory = directory or StateDir.open(options.root, id)
        if lock:
            self.directory.lock()
        try:
            if state is None or not self.directory.tells_of(state):
                state = self.directory.load()
            self.state = state
            options.detail(
                f"container {state.id}: phase {state.phase}, process {state.pid}, cgroup"
                f" {state.mount}{state.cgroup or ' of the caller'}"
            )
        except BaseException:
            self.directory.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether the first process exists; the start time shows whether its pid was reused."""
        state = self.state
        return state.start_time > 0 and start_time(state.pid) == state.start_time

    @property
    def status(self) -> str:
        """creating, created, running, paused or stopped. runtime.md, State."""
        if self.state.phase == "creating":
            return "creating" if self.alive or self.directory.is_locked else "stopped"
        if not self.alive:
            return "stopped"
        if self.frozen:
            return "paused"
        return "created" if self.directory.awaits_start else "running"

    @property
    def cgroup(self) -> Cgroup | None:
        """Its cgroup, None if it has none."""
        if not self.state.mount:
            return None
        state = self.state
        if state.unit:
            from ..cgroup.unit import UnitCgroup

            return UnitCgroup(
                state.mount, state.cgroup, state.unit, user=state.user_unit, made=state.made
            )
        from ..cgroup.tree import Cgroup

        return Cgroup(state.mount, state.cgroup, state.made)

    @property
    def frozen(self) -> bool:
        """Whether its cgroup is frozen, which takes no `Cgroup`: most commands need only this."""
        state = self.state
        try:
            events = (
                read_bytes(f"{state.mount}{state.cgroup}/cgroup.events") if state.mount else b""
            )
        except KernelError:
            return False  # the cgroup was removed
        return b"frozen 1\n" in events

    def pidfd(self) -> int:
        """A descriptor of the first process. Raises StateError if it has exited."""
        fd = -1
        try:
            if self.state.pid:
                fd = os.pidfd_open(self.state.pid)
        except ProcessLookupError:
            pass
        if fd < 0 or not self.alive:  # checked after opening, so that the pidfd is of that process
            if fd >= 0:
                os.close(fd)
            raise self.wrong_status("stopped")
        return fd

    def send(self, number: int) -> None:
        """Send a signal to the first process. Raises StateError if it has exited."""
        fd = self.pidfd()
        try:
            _signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            pass  # it has just exited
        finally:
            os.close(fd)

    def require(self, *wanted: str) -> str:
        """The status. Raises StateError if it is not one of these."""
        status = self.status
        if status not in wanted:
            raise self.wrong_status(status, *wanted)
        return status

    def wrong_status(self, status: str, *wanted: str) -> StateError:
        """The error for a container whose status a command cannot work with."""
        needed = f", not {' or '.join(wanted)}" if wanted else ""
        # containerd recognizes an exited process by this phrase
        gone = ": container not running" if status == "stopped" else ""
        remedy = _REMEDIES.get(status, "")
        if status == "running" and "stopped" in wanted:
            remedy = "kill it first, or use --force"
        return StateError(
            f"is {status}{needed}{gone}", at="container", value=self.state.id, remedy=remedy
        )

    def public(self) -> dict[str, object]:
        """The state as printed by `state` and `list`: the specification's, and what runc adds."""
        status = self.status
        state = self.state
        pid = 0 if status == "stopped" else state.pid
        shown = public_state(state, status, pid)
        annotations = shown.pop("annotations", {})
        shown |= {"rootfs": state.rootfs, "created": state.created}  # the order is runc's
        if annotations:
            shown["annotations"] = annotations
        return {**shown, "owner": ""}
