"""
Waiting on behalf of a program, where the deadline and signals for it are noticed.

Monitors and their threads tell each other by STOP (deadline.py), which all threads block. A
signalfd is readable while one is pending, so it is polled beside what the program waits for, and
nothing is missed between looking and waiting. Other tasks are served meanwhile.
"""

from __future__ import annotations

import select
import time

from . import signals
from .ending import Interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .task import Task

_LONGEST = 86400.0  # seconds of one poll(2)


def wait(
    task: Task, files: Sequence[tuple[int, int]] = (), seconds: float | None = None,
    *, restart: bool = True, until: Callable[[], bool] | None = None,
) -> list[tuple[int, int]]:  # fmt: skip
    """
    Wait until a descriptor of this process is ready for its poll(2) events.

    Returns those that are ready; none after so many seconds, or when another monitor has told this
    one and until() holds. Raises Interrupted when a signal must
    be delivered first, Timeout at the deadline of the program.
    """
    end = None if seconds is None else time.monotonic() + max(0.0, seconds)
    poll = select.poll()
    for fd, events in files:
        poll.register(fd, events)
    if end is None or seconds:
        if signals.wanted(task):
            raise Interrupted(restart=restart)
        poll.register(task.process.bell.open(), select.POLLIN)
    process = task.process
    while True:
        process.lock.release()
        try:
            ready = poll.poll(_milliseconds(task, end))
        finally:
            process.lock.acquire()
        found = [(fd, events) for fd, events in ready if fd != task.process.bell.fd]
        if found:
            return found
        if ready:
            signals.receive(task.process)
        if until and until():
            return []
        process.notice()
        if signals.wanted(task) or process.ending or task.ended:
            raise Interrupted(restart=restart)
        if end is not None and time.monotonic() >= end:
            return []


def _milliseconds(task: Task, end: float | None) -> float:
    """How long one poll may take."""
    left = (task.process.deadline.left(), task.process.timers.left())
    limits = [_LONGEST, *(seconds for seconds in left if seconds is not None)]
    if end is not None:
        limits.append(end - time.monotonic())
    return max(0.0, min(limits)) * 1000
