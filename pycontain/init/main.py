"""
The container's first process, from its fork to execve.

The plan lists the steps; the modules of this package contain the function of each, marked with
`child_step`. A child of vfork does not start here but in `launch.vfork`.
"""

from __future__ import annotations

from ..lean import os
from ..plan import steps
from ..plan.walk import Peer, child_step, walk
from ..wire import EXIT_FAILED, sync

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from ..plan.steps import Step
    from ..plan.walk import Times, Turn
    from .context import Context


def live(turns: Sequence[Turn], context: Context) -> NoReturn:
    """
    Carry out the child's turns of the plan.

    Ends by executing the program, or by reporting the first error and exiting.
    """
    times: Times = []
    context.turns = turns
    peer = _Parent(context, times)
    try:
        walk(turns, {"child": peer.perform}, peer, times)
    except BaseException as error:  # nothing may escape into the caller's stack
        _report(error, context)
    os._exit(EXIT_FAILED)


class _Parent(Peer):
    """The parent as the other side of the child's walk; it is notified of the child's progress."""

    def __init__(self, context: Context, times: Times) -> None:
        self.context = context
        self.times = times
        context.new_times = self._new_times

    def perform(self, step: Step) -> None:
        """Perform a step after counting it as begun; the last one, execve, is announced."""
        channel = self.context.parent
        if step.name == "enter":
            self.pass_turn()  # it does not return
        if type(step) is steps.Execute:  # a monitor does so itself, when its program can begin
            sync.report_exec(channel, self._new_times())
        sync.begin_step(channel)
        child_step.perform(step, self.context)

    def wait(self, turn: Turn) -> None:  # noqa: ARG002 -- the parent's turns are all alike
        """Wait for the end of the parent's turn."""
        sync.await_turn(self.context.parent)

    def pass_turn(self) -> None:
        """Tell the parent that its turn has come."""
        sync.report_done(self.context.parent, self._new_times())

    def _new_times(self) -> list[tuple[str, int]]:
        """The times that were not yet sent to the parent."""
        new = [(name, spent) for _, name, spent in self.times]
        self.times.clear()
        return new


def _report(error: BaseException, context: Context) -> None:
    try:
        sync.report_fault(context.parent, error)
    except BrokenPipeError:
        pass  # the parent has exited
    finally:
        os._exit(EXIT_FAILED)
