"""What the parent's steps share while they make a container's first process, and undo."""

from __future__ import annotations

import _signal

from ..cgroup.disabled import NoCgroup
from ..cgroup.tree import Cgroup
from ..errors import KernelError, PycontainError, StateError, fault_of
from ..kernel import calls
from ..lean import os
from ..state.record import public_state
from . import recover

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..init.context import Context
    from ..options import Options
    from ..plan.walk import Times, Turn
    from ..state.directory import StateDir
    from ..state.record import State
    from ..wire.sync import Channel


class Child:
    """
    A container's first process, as its parent holds it.

    channel  to it; None for a child of vfork, which needs none
    """

    __slots__ = ("channel", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int, channel: Channel | None = None) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.channel = channel

    def close_channel(self) -> None:
        """Close the channel; the pidfd stays."""
        if self.channel is not None:
            self.channel.close()


class Caller:
    """
    On whose behalf a launch happens: a command, or a worker of the library.

    clone_flags  more flags for clone3, such as CLONE_PARENT
    filters      device filters in the kernel, by their code, which outlive a launch
    network      a network namespace to use where the plan has a new one, -1 for none
    recovery     what this process becomes if a child of vfork is killed
    """

    def __init__(
        self,
        clone_flags: int = 0,
        filters: dict[bytes, int] | None = None,
        network: int = -1,
        recovery: Callable[[Options, State], recover.Recovery] = recover.of_command,
    ) -> None:
        self.clone_flags = clone_flags
        self.filters = filters
        self.network = network
        self.recovery = recovery


class Launch:
    """
    A plan on its way to a process: what `exec` needs.

    options     of the command
    turns       the plan
    cgroup      what the child is born in
    target      a pidfd of the process whose namespaces are joined, -1 for none
    caller      on whose behalf

    Set by the steps:

    console     the socket that is sent the terminal's master, -1 for none
    seccomp     the compiled system call filter
    namespaces  CLONE_NEW* -> descriptor, of those to join
    times       of the steps of both sides
    left_over   pids of children that have ended, for their parent to wait for
    hooks_ran   whether hooks ran, so that the poststop hooks will
    """

    def __init__(
        self,
        options: Options,
        turns: tuple[Turn, ...],
        *,
        cgroup: Cgroup | NoCgroup,
        target: int = -1,
        caller: Caller | None = None,
    ) -> None:
        self.options = options
        self.turns = turns
        self.cgroup = cgroup
        self.target = target
        self.caller = caller or Caller()
        self.console = -1
        self.seccomp = b""
        self.namespaces: dict[int, int] = {}
        self.times: Times = []
        self.left_over: list[int] = []
        self.hooks_ran = False
        self._child: Child | None = None
        self._undo: list[Callable[[], object]] = []

    # --- the child -----------------------------------------------------------------------------

    @property
    def child(self) -> Child:
        """The child; there is one from the step `spawn` on."""
        assert self._child is not None, "no step before `spawn` has a child"
        return self._child

    @child.setter
    def child(self, child: Child) -> None:
        self._child = child

    @property
    def has_child(self) -> bool:
        """Whether a child was made, and not waited for here."""
        return self._child is not None

    def bury(self) -> None:
        """Wait for the child, which ends, as far as it is ours to wait for."""
        child, self._child = self.child, None
        try:
            os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
        except ChildProcessError:  # a worker's children are the program's
            self.left_over.append(child.pid)
        os.close(child.pidfd)

    def kill_child(self) -> None:
        """Kill the child and wait for it, if there is one."""
        if self._child is None:
            return
        child = self._child
        try:
            calls.send_signal(child.pidfd, _signal.SIGKILL)
            os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
        except (KernelError, ChildProcessError):
            pass  # it has ended and was reaped
        child.close_channel()
        os.close(child.pidfd)

    def fill(self, context: Context) -> None:
        """Give the child what it takes along."""
        context.namespaces = self.namespaces
        context.console = self.console
        context.seccomp = self.seccomp
        context.network = self.caller.network
        context.target = self.target
        context.cgroup = self.cgroup.directory if isinstance(self.cgroup, Cgroup) else ""

    def close_copy(self) -> None:
        """Close, in the child, what is the parent's alone."""

    def close_what_the_child_has(self) -> None:
        """Close the parent's copies of what the child was given."""
        for fd in (*self.namespaces.values(), self.console):
            if fd >= 0:
                os.close(fd)
        self.namespaces, self.console = {}, -1

    # --- undoing -------------------------------------------------------------------------------

    def on_undo(self, action: Callable[[], object]) -> None:
        """Remember how what a step has just changed on the host is taken back."""
        self._undo.append(action)

    def undo(self) -> None:
        """
        Take everything back, last things first, whatever fails on the way.

        What cannot be taken back is a warning: the error that led here is what matters.
        """
        while self._undo:
            try:
                self._undo.pop()()
            except (PycontainError, OSError) as error:
                self.options.warn(f"cannot be undone: {fault_of(error).line()}")
        self.release()

    def release(self) -> None:
        """Close what only bringing up needs; the child's pidfd stays."""
        self._undo.clear()
        if self._child is not None:
            self._child.close_channel()
        if self.target >= 0:
            os.close(self.target)
            self.target = -1
        self.cgroup.close()


class ContainerLaunch(Launch):
    """
    The launch of a new container: what `create` and `run` need.

    directory  its state directory
    state      what is known of it
    config     the text of its configuration
    poststop   runs its poststop hooks
    """

    def __init__(
        self,
        options: Options,
        turns: tuple[Turn, ...],
        *,
        directory: StateDir,
        state: State,
        config: str,
        poststop: Callable[[State], None],
        caller: Caller | None = None,
    ) -> None:
        super().__init__(options, turns, cgroup=NoCgroup(), caller=caller)
        self.directory = directory
        self.state = state
        self.config = config
        self.poststop = poststop
        self.start_fifos: Channel | None = None

    @property
    def own_cgroup(self) -> Cgroup:
        """The container's cgroup; there is one from the step that makes it on."""
        assert isinstance(self.cgroup, Cgroup), "no step before `cgroup` has one"
        return self.cgroup

    @property
    def killed_by_oom(self) -> bool:
        """Whether the kernel killed a process of this container for lack of memory."""
        return isinstance(self.cgroup, Cgroup) and bool(self.cgroup.oom_kills())

    def fill(self, context: Context) -> None:
        """Give the child what it takes along."""
        super().fill(context)
        context.start = self.start_fifos
        context.hook_state = public_state(self.state, "creating", 0)

    def close_copy(self) -> None:
        """Close, in the child, the lock of the state directory, which would outlive ours."""
        self.directory.close_copy()

    def close_what_the_child_has(self) -> None:
        """Close the parent's copies of what the child was given."""
        super().close_what_the_child_has()
        if self.start_fifos is not None:
            self.start_fifos.close()
            self.start_fifos = None

    def undo(self) -> None:
        """Take everything back; the poststop hooks run if other hooks have."""
        super().undo()
        if self.hooks_ran:
            self.poststop(self.state)

    def release(self) -> None:
        """Close what only bringing up needs; the child's pidfd stays."""
        super().release()
        self.directory.close()

    def finish(self) -> bool:
        """
        After the program's end: kill what it left, remove cgroup and state.

        False when somebody else, such as `delete --force`, has done that.
        """
        try:
            self.directory.lock()
        except StateError:
            return False
        if isinstance(self.cgroup, Cgroup):
            self.cgroup.clear()
        self.directory.remove()
        return True
