"""What the parent's steps share while they create a container's first process, and undoing them."""

from __future__ import annotations

import _signal

from ..cgroup.disabled import NoCgroup
from ..cgroup.place import find_mount, own
from ..cgroup.tree import Cgroup
from ..errors import KernelError, PycontainError, StateError, fault_of
from ..kernel import calls
from ..kernel.descriptors import close_all, close_owned
from ..kernel.wait import FOREVER
from ..lean import os
from ..plan import steps
from ..state.record import public_state
from . import recover

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..cgroup.rdt import Group
    from ..cgroup.unit import UnitCgroup
    from ..init.context import Context
    from ..kernel.sdnotify import Proxy
    from ..kernel.wait import Until
    from ..options import Options
    from ..plan.ids import Ids
    from ..plan.walk import Times, Turn
    from ..state.directory import StateDir
    from ..state.record import State
    from ..vm.contained import Monitor
    from ..wire.sync import Channel
    from .child import Child
    from .joined_pids import Entrance

_TIME_TO_UNDO = 0.5  # seconds for the poststop hooks after a launch has timed out


class Caller:
    """
    On whose behalf a launch happens: a command, or a worker of the library.

    clone_flags  more flags for clone3, such as CLONE_PARENT
    filters      a cache of loaded device filters, by their code, kept between launches
    network      a network namespace to use where the plan has a new one, -1 for none
    recovery     what this process executes if a child of vfork is killed
    until        how long a launch may wait for the child, for hooks and for files
    """

    def __init__(
        self,
        clone_flags: int = 0,
        filters: dict[bytes, int] | None = None,
        network: int = -1,
        recovery: Callable[[Options, State], recover.Recovery] = recover.of_command,
        until: Until = FOREVER,
    ) -> None:
        self.clone_flags = clone_flags
        self.filters = filters
        self.network = network
        self.recovery = recovery
        self.until = until


class Launch:
    """
    A plan being carried out: what `exec` needs.

    options     of the command
    turns       the plan
    cgroup      the cgroup that the child is created in
    target      a pidfd of the process whose namespaces are joined, -1 for none
    caller      on whose behalf
    joined      the public state of the container whose namespaces are joined

    Set by the steps:

    console     the socket that receives the terminal's master, -1 for none
    network     the network namespace that devices were moved to, -1 for none
    agent       the socket that receives the listener of the system call filter, -1 for none
    seccomp     the compiled system call filter
    namespaces  CLONE_NEW* -> descriptor, of those to join
    trees       detached mounts that were prepared: JSON path or device's path -> descriptor
    ids         which ids of the host the container's are; None without a user namespace
    forked      whether the child has memory of its own, and carries out its turns of the plan
    channel     to a forked child, or to the process that has replaced it
    monitor     of the program's virtual machine; None without one
    entrance    to the process that the child creates in a pid namespace; None if it does not
    times       of the steps of both sides
    left_over   pids of children that have ended, which their parent must wait for
    hooks_ran   whether hooks ran, so that undoing runs the poststop hooks
    """

    channel: Channel

    def __init__(
        self,
        options: Options,
        turns: tuple[Turn, ...],
        *,
        cgroup: Cgroup | NoCgroup,
        target: int = -1,
        caller: Caller | None = None,
        joined: dict[str, object] | None = None,
    ) -> None:
        self.options = options
        self.turns = turns
        self.cgroup = cgroup
        self.target = target
        self.caller = caller or Caller()
        self.joined = joined or {}
        self.console = -1
        self.network = self.agent = -1
        self.seccomp = b""
        self.namespaces: dict[int, int] = {}
        self.trees: dict[str, int] = {}
        self.ids: Ids | None = None
        self.forked = False
        self.monitor: Monitor | None = None
        self.entrance: Entrance | None = None
        self.times: Times = []
        self.left_over: list[int] = []
        self.hooks_ran = False
        self._children: list[Child] = []  # the last one is the child; the others created the next
        self._undo: list[Callable[[], object]] = []
        self._close: list[Callable[[], object]] = []

    # --- the child -----------------------------------------------------------------------------

    @property
    def child(self) -> Child:
        """The child; it exists from the step `spawn` on."""
        return self._children[-1]

    @property
    def pids(self) -> list[int]:
        """The child and those that created it, as far as they exist and were not reaped here."""
        return [child.pid for child in self._children]

    def add_child(self, child: Child) -> None:
        """Continue with a new process; the one before, if any, has created it, and exits."""
        self._children.append(child)

    def reap_child(self) -> None:
        """Wait for the child, which is exiting; if it is not ours, leave that to its parent."""
        self._reap(self._children.pop())

    def _reap(self, child: Child) -> None:
        try:
            os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
        except ChildProcessError:  # a worker's: a child of the program
            self.left_over.append(child.pid)
        child.close_pidfd()

    def reap_creators(self) -> None:
        """
        Wait for the processes that have created another, if there are any; they exit.

        Raises Timeout and Interrupted: a user with the uid of one may have stopped it.
        """
        while len(self._children) > 1:
            self.caller.until.wait(self._children[0].pidfd)
            self._reap(self._children.pop(0))

    def kill_child(self) -> None:
        """Kill the child and those that created it, and wait for them, if there are any."""
        for child in self._children:
            try:
                calls.send_signal(child.pidfd, _signal.SIGKILL)
                os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
            except (KernelError, ChildProcessError):
                pass  # it has exited and was reaped
            child.close_pidfd()

    def fill(self, context: Context) -> None:
        """Fill the child's context."""
        context.namespaces = self.namespaces
        context.trees = self.trees
        context.ids = self.ids
        if self.ids is not None:
            context.root_ids = self.ids.uid(0), self.ids.gid(0)
        context.console = self.console
        context.seccomp = self.seccomp
        context.network = self.caller.network
        context.target = self.target
        context.monitor = self.monitor
        if isinstance(self.cgroup, Cgroup):
            context.cgroup = self.cgroup.directory
        elif any(isinstance(step, steps.MountCgroup) for turn in self.turns for step in turn.steps):
            context.cgroup = self.cgroup_directory
        if self.entrance is not None:
            context.entrance, context.shared_pid = self.entrance.theirs, self.entrance.shared_pid

    @property
    def cgroup_directory(self) -> str:
        """The directory of the container's cgroup, or of the runtime's own, which it shares."""
        if isinstance(self.cgroup, Cgroup):
            return self.cgroup.directory
        return find_mount() + own()

    def host_uid(self, uid: int) -> int:
        """The host's uid for one of the container's. Raises StepError for one without."""
        return uid if self.ids is None else self.ids.uid(uid)

    def host_gid(self, gid: int) -> int:
        """The host's gid for one of the container's. Raises StepError for one without."""
        return gid if self.ids is None else self.ids.gid(gid)

    def public_state(self) -> dict[str, object]:
        """The container's state, for the agent of a system call filter."""
        return self.joined

    def close_copy(self) -> None:
        """Close, in the child, what only the parent needs."""
        close_owned(self, "agent", "network")

    def close_what_the_child_has(self) -> None:
        """Close the parent's copies of what the child was given."""
        fds = [*self.namespaces.values(), *self.trees.values(), self.console]
        self.namespaces, self.trees, self.console = {}, {}, -1
        close_all(fds)
        if self.monitor is not None:
            self.monitor.close()

    # --- undoing -------------------------------------------------------------------------------

    def on_undo(self, action: Callable[[], object]) -> None:
        """Register how to undo what a step has just changed on the host."""
        self._undo.append(action)

    def on_release(self, action: Callable[[], object]) -> None:
        """Register how to close what a step has opened, and nothing needs after the launch."""
        self._close.append(action)

    def undo(self) -> None:
        """
        Undo everything, in reverse order, even if some of it fails.

        What cannot be undone is a warning: the error that led here is what matters.
        """
        while self._undo:
            try:
                self._undo.pop()()
            except (PycontainError, OSError) as error:
                self.options.warn(f"cannot be undone: {fault_of(error).line()}")
        self.release()

    def release(self) -> None:
        """Close what is only needed to bring the container up; the child's pidfd stays open."""
        self._undo.clear()
        while self._close:
            self._close.pop()()
        close_owned(self, "target", "agent", "network")
        self.cgroup.close()


class ContainerLaunch(Launch):
    """
    The launch of a new container: what `create` and `run` need.

    directory  its state directory
    state      its state so far
    config     the text of its configuration
    poststop   runs its poststop hooks, until something ends the wait for them

    Set by the steps:

    rdt        its class of service
    unit       its cgroup, if that is a unit of systemd
    proxy      passes on that its program is ready; None if nobody wants to know
    """

    rdt: Group
    unit: UnitCgroup

    def __init__(
        self,
        options: Options,
        turns: tuple[Turn, ...],
        *,
        directory: StateDir,
        state: State,
        config: str,
        poststop: Callable[[State, Until], None],
        caller: Caller | None = None,
    ) -> None:
        super().__init__(options, turns, cgroup=NoCgroup(), caller=caller)
        self.directory = directory
        self.state = state
        self.config = config
        self.poststop = poststop
        self.proxy: Proxy | None = None
        self.start_fifos: Channel | None = None

    @property
    def killed_by_oom(self) -> bool:
        """Whether the out-of-memory killer has killed a process of this container."""
        return isinstance(self.cgroup, Cgroup) and bool(self.cgroup.oom_kills())

    def fill(self, context: Context) -> None:
        """Fill the child's context."""
        super().fill(context)
        context.start = self.start_fifos
        context.hook_state = public_state(self.state, "creating", 0)

    def public_state(self) -> dict[str, object]:
        """The container's state while it is created."""
        return public_state(self.state, "creating", self.child.pid)

    def close_what_the_child_has(self) -> None:
        """Close the parent's copies of what the child was given."""
        super().close_what_the_child_has()
        if self.start_fifos is not None:
            self.start_fifos.close()
            self.start_fifos = None

    def undo(self) -> None:
        """Undo everything; the poststop hooks run if other hooks ran."""
        super().undo()
        if self.hooks_ran:
            self.poststop(self.state, self.caller.until.extended(_TIME_TO_UNDO))

    def release(self) -> None:
        """Close what is only needed to bring the container up; the child's pidfd stays open."""
        super().release()
        self.directory.release()

    def remove_directory(self) -> None:
        """Remove the state directory, unless that has happened already."""
        if not self.directory.has_vanished:
            self.directory.remove()

    def finish(self) -> bool:
        """
        After the program's end: kill what it left running, remove cgroup and state.

        False if another command, such as `delete --force`, has done that. Such a command removes
        the cgroup first: if ours is there without a state, something else has removed the state.
        """
        try:
            self.directory.lock()
        except StateError:
            if not (isinstance(self.cgroup, Cgroup) and self.cgroup.is_the_same):
                return False
            self.cgroup.clear()
            return True
        if isinstance(self.cgroup, Cgroup):
            self.cgroup.clear()
        self.directory.remove()
        return True
