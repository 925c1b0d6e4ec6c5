"""A container as commands find it: its state directory and what its process does now."""

from __future__ import annotations

import _signal

from ..cgroup.tree import Cgroup
from ..errors import KernelError, StateError
from ..kernel.files import start_time
from ..lean import os
from ..state.directory import StateDir
from ..state.record import public_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..options import Options
    from ..state.record import State


class Handle:
    """
    A container that exists.

    directory  its state directory
    state      what its files say
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
        With lock, wait until no other command is at work on it; the caller lets others in again.

        state is what the caller knows; it is read all the same when the file of the process tells
        of another one. directory is the caller's, if it was opened already. Raises StateError when
        there is no such container.
        """
        self.directory = directory or StateDir.open(options.root, id)
        if lock:
            self.directory.lock()
        try:
            if state is None or not self.directory.tells_of(state):
                state = self.directory.load()
            self.state = state
        except BaseException:
            self.directory.unlock()
            raise

    @property
    def alive(self) -> bool:
        """Whether the first process is there: the pid alone could be somebody else's by now."""
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
        """Its cgroup, None when it has none."""
        if not self.state.mount:
            return None
        return Cgroup(self.state.mount, self.state.cgroup, self.state.made)

    @property
    def frozen(self) -> bool:
        """Whether its cgroup is frozen."""
        cgroup = self.cgroup
        try:
            return cgroup is not None and cgroup.frozen
        except KernelError:
            return False  # the cgroup went away with its last process
        finally:
            if cgroup is not None:
                cgroup.close()

    def pidfd(self) -> int:
        """A descriptor of the first process. Raises StateError when it is gone."""
        fd = -1
        try:
            if self.state.pid:
                fd = os.pidfd_open(self.state.pid)
        except ProcessLookupError:
            pass
        if fd < 0 or not self.alive:  # asked after opening: then the pidfd is of that process
            if fd >= 0:
                os.close(fd)
            raise self.wrong_status("stopped")
        return fd

    def send(self, number: int) -> None:
        """Send a signal to the first process. Raises StateError when it is gone."""
        fd = self.pidfd()
        try:
            _signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            pass  # it ended in between
        finally:
            os.close(fd)

    def require(self, *wanted: str) -> str:
        """The status. Raises StateError when it is none of these."""
        status = self.status
        if status not in wanted:
            raise self.wrong_status(status, *wanted)
        return status

    def wrong_status(self, status: str, *wanted: str) -> StateError:
        """The error for a container that is not as a command needs it."""
        needed = f", not {' or '.join(wanted)}" if wanted else ""
        # containerd knows a process that is gone by these words
        gone = ": container not running" if status == "stopped" else ""
        return StateError(f"is {status}{needed}{gone}", at="container", value=self.state.id)

    def public(self) -> dict[str, object]:
        """The state as `state` and `list` show it: the specification's, and what runc adds."""
        status = self.status
        state = self.state
        pid = 0 if status == "stopped" else state.pid
        shown = public_state(state, status, pid)
        annotations = shown.pop("annotations", {})
        shown |= {"rootfs": state.rootfs, "created": state.created}  # the order is runc's
        if annotations:
            shown["annotations"] = annotations
        return {**shown, "owner": ""}
