"""The wait for `start`, in a container that was created with `create`. runtime.md, Start."""

from __future__ import annotations

import _signal

from ..lean import os
from ..plan import steps
from ..plan.walk import child_step
from ..wire import sync

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context


@child_step(steps.AwaitStart)
def await_start(step: steps.AwaitStart, context: Context) -> None:
    """
    Wait for `start`, which takes the parent's place from here on.

    The channel to the parent is closed: a container can stay created for days.
    """
    assert context.start is not None, "the parent makes the FIFOs for this step"
    to_creator, context.channel = context.parent, context.start
    to_creator.close()
    _die_on_terminating_signals()
    sync.await_turn(context.parent)


def _die_on_terminating_signals() -> None:
    """
    Exit on terminating signals, until execve, which resets handlers.

    The first process of a pid namespace is not sent signals that it has no handler for.
    """
    for number in (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM):
        try:
            _signal.signal(number, lambda number, _: os._exit(128 + number))
        except OSError:  # forbidden by a filter that is already loaded
            return
