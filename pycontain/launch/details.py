"""What --debug logs of a launch: each step of both sides, what it did and how long it took."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .launch import Launch


def log(launch: Launch) -> None:
    """
    Log the steps that have ended, in the order of the plan.

    They are logged afterwards, since the child cannot reach the log from inside.
    """
    spent = {side: _times(launch, side) for side in ("parent", "child")}
    for step in (step for turn in launch.turns for step in turn.steps):
        taken = next(spent[step.side], None)
        if taken is not None:
            line = f"{step.side}: {step.name}: {step.what()} ({step.why}; {taken} us)"
            launch.options.detail(line)
    if launch.pids:
        launch.options.detail(f"the container's process is {launch.child.pid}")


def _times(launch: Launch, side: str) -> Iterator[int]:
    return (taken for where, _, taken in launch.times if where == side)
