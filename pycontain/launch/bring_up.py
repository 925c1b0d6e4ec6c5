"""The parent's walk through a plan: it ends with the program running or everything undone."""

from __future__ import annotations

import _signal

from ..kernel import const as c
from ..lean import os
from ..plan.walk import Peer, parent_step, walk
from . import steps as _  # noqa: F401 -- the parent's steps
from .child import import_performers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan.steps import Step
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
        _log_details(launch)
        launch.undo()
        raise
    else:
        _log_details(launch)
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)


def _log_details(launch: Launch) -> None:
    if launch.options.debug:
        from .details import log

        log(launch)


def bring_up_with_terminal(launch: Launch, process: Process | None, *, detached: bool) -> int:
    """As bring_up; returns the master of a terminal to serve in the foreground, or -1."""
    if detached or process is None or not process.terminal:
        bring_up(launch)
        return -1
    return bring_up_for_master(launch)


def bring_up_for_master(launch: Launch) -> int:
    """As bring_up, for a process with a terminal; returns the terminal's master."""
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
    if launch.forked:  # a child of vfork has done the rest
        from .forked import ForkedChild

        walk(rest, {"parent": perform}, ForkedChild(launch), launch.times)
        launch.reap_creators()
