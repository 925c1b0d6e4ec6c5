"""The parent's walk through a plan: in the end the program runs, or everything is undone."""

from __future__ import annotations

import _signal

from ..kernel import const as c
from ..kernel.files import never_executed
from ..lean import os
from ..plan import steps as planned
from ..plan.walk import Peer, parent_step, walk
from ..wire import sync
from . import steps as _  # noqa: F401 -- the parent's steps
from .child import import_performers
from .recover import death, ending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..errors import StepError
    from ..plan.steps import Step
    from ..plan.walk import Turn
    from ..spec.records import Process
    from .launch import Launch


def bring_up(launch: Launch) -> None:
    """
    Carry out the plan: up to the wait for `start`, or until the program runs.

    Raises the first error of either side, after undoing everything.
    """
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, c.ALL_SIGNALS)
    launch.on_undo(launch.close_what_the_child_has)
    try:
        _walk(launch)
    except BaseException:
        _tell_details(launch)
        launch.undo()
        raise
    else:
        _tell_details(launch)
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)


def _tell_details(launch: Launch) -> None:
    if launch.options.debug:
        from .details import tell

        tell(launch)


def bring_up_with_terminal(launch: Launch, process: Process | None, *, detached: bool) -> int:
    """Like bring_up; returns the master of a terminal to serve in the foreground, or -1."""
    if detached or process is None or not process.terminal:
        bring_up(launch)
        return -1
    return bring_up_for_master(launch)


def bring_up_for_master(launch: Launch) -> int:
    """Like bring_up, of a process with a terminal; returns the terminal's master."""
    from ..kernel import sockets

    ours, launch.console = sockets.pair()
    try:
        bring_up(launch)
    except BaseException:
        os.close(ours)
        raise
    return sockets.receive(ours)


def _walk(launch: Launch) -> None:
    first, *rest = launch.turns
    import_performers(launch.turns)

    def perform(step: Step) -> None:
        parent_step.perform(step, launch)

    walk([first], {"parent": perform}, Peer(), launch.times)
    if launch.child.channel is not None:  # a child of vfork has done the rest
        walk(rest, {"parent": perform}, _ForkedChild(launch), launch.times)
        launch.reap_creators()


class _ForkedChild(Peer):
    """The child as the other side of the parent's walk."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch

    @property
    def channel(self) -> sync.Channel:
        """To the child, or to the process that it has created."""
        channel = self.launch.child.channel
        assert channel is not None, "it was forked"
        return channel

    @property
    def inside(self) -> int:
        """The pid inside of a process that was created in a joined pid namespace, or 0."""
        return self.launch.entrance.pid if self.launch.entrance is not None else 0

    def pass_turn(self) -> None:
        """Let the child continue."""
        if self.inside:
            sync.let_run(self.channel, self.inside)
        else:
            sync.pass_turn(self.channel)

    def wait(self, turn: Turn) -> None:
        """Wait for the end of a turn, or until the child waits for `start` in it."""
        kinds = {type(step) for step in turn.steps}
        self.launch.hooks_ran |= any(step.name == "container hooks" for step in turn.steps)
        if planned.AwaitStart in kinds:
            if self.inside:
                self._await("end")  # of what it reports to us
            return
        if _loads_listener(turn.steps[-1]):
            return  # its next system call may wait for the agent: see `launch.notify`
        for word in ("exec", "end") if planned.Execute in kinds else ("done",):
            self._await(word)
        if planned.Execute in kinds and never_executed(self.launch.child.pid):
            raise self._early_exit("its program ran")

    def _await(self, wanted: str) -> None:
        word, times = sync.await_child(self.channel)
        self.launch.times += [("child", name, spent) for name, spent in times]
        if word != wanted:
            raise self._early_exit(f'it sent "{wanted}"')

    def _early_exit(self, event: str) -> StepError:
        """The error for a child that has ended before this event."""
        try:
            ended = os.waitid(os.P_PIDFD, self.launch.child.pidfd, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:  # a worker cannot wait for the program's children
            ended = None
        turns = self.launch.turns
        ours = [step.name for turn in turns if turn.side == "child" for step in turn.steps]
        begun = sync.steps_begun(self.channel)
        how = ending(ended) if ended else "died"
        return death(f"{how} before {event}", ours[begun - 1] if begun else "")


def _loads_listener(step: Step) -> bool:
    flag = c.SECCOMP_FILTER_FLAG_NEW_LISTENER
    return isinstance(step, planned.LoadSeccomp) and bool(step.flags & flag)
