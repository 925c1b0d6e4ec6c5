"""A forked child as the other side of the parent's walk: it carries out its own turns."""

from __future__ import annotations

from ..kernel import const as c
from ..kernel.files import never_executed
from ..lean import os
from ..plan import steps as planned
from ..plan.walk import Peer
from ..wire import sync
from .recover import death, ending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..errors import StepError
    from ..plan.steps import Step
    from ..plan.walk import Turn
    from .launch import Launch


class ForkedChild(Peer):
    """The child as the other side of the parent's walk."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch

    @property
    def channel(self) -> sync.Channel:
        """The channel to the child, or to the process that it has created."""
        return self.launch.channel

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
        kinds, last = {type(step) for step in turn.steps}, turn.steps[-1]
        self.launch.hooks_ran |= any(step.name == "container hooks" for step in turn.steps)
        if planned.AwaitStart in kinds:
            if self.inside:
                self._await("end")  # it closes the pipes to us
            return
        if _loads_listener(last):
            return  # its next system call may wait for the agent: see `launch.notify`
        for word in ("exec", "end") if isinstance(last, planned.Execute) else ("done",):
            self._await(word)
        if type(last) is planned.Execute and never_executed(self.launch.child.pid):
            raise self._early_exit("its program ran")

    def _await(self, expected: str) -> None:
        word, times = sync.await_child(self.channel)
        self.launch.times += [("child", name, spent) for name, spent in times]
        if word != expected:
            raise self._early_exit(f'it sent "{expected}"')

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
