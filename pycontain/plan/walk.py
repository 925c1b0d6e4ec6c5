"""
How the turns of a plan are carried out, in each of the processes.

A plan's steps belong to two sides, the parent (the runtime, on the host) and the child (the
container's first process). They act in turn: where the side changes, one waits for the other. That
rule is implemented here, once, for three cases:

    parent           performs its own turns, and waits while the child performs the others
    forked child     the same for the other side
    child of vfork   performs the turns of both sides, while the parent sleeps
"""

from __future__ import annotations

import time

from ..errors import PycontainError, StepError, fault_of, from_record
from ..lean.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias, TypeVar

    from .steps import Step

    Times: TypeAlias = list[tuple[str, str, int]]  # (side, step, microseconds)
    StepType = TypeVar("StepType", bound=Step)
    Context = TypeVar("Context")
    Function: TypeAlias = Callable[[StepType, Context], object]


class Turn(Record):
    """Steps that one side carries out in a row; side is "parent" or "child"."""

    side: str
    steps: tuple[Step, ...]


class Peer:
    """The other side; this base class does nothing, for a walk that performs both sides' turns."""

    def wait(self, turn: Turn) -> None:
        """Wait until the other side has carried out its turn."""

    def pass_turn(self) -> None:
        """Tell the other side that its turn has come."""


def turns_of(steps: Sequence[Step]) -> tuple[Turn, ...]:
    """
    The turns of a list of steps.

    The first one ends with the step `spawn`, which creates the child: until then there is only one
    process, and afterwards the two take turns.
    """
    spawned = 1 + next(index for index, step in enumerate(steps) if step.name == "spawn")
    turns = [Turn(side="parent", steps=tuple(steps[:spawned]))]
    row: list[Step] = []
    for step in steps[spawned:]:
        if row and row[0].side != step.side:
            turns.append(Turn(side=row[0].side, steps=tuple(row)))
            row = []
        row.append(step)
    return (*turns, Turn(side=row[0].side, steps=tuple(row)))


def walk(
    turns: Sequence[Turn],
    performers: Mapping[str, Callable[[Step], object]],
    peer: Peer,
    times: Times,
) -> None:
    """
    Carry out the turns of the sides that are performed here, and wait during the others.

    performers  side -> the function that performs one of its steps
    times       gets the time of each step performed here, in the order in which they began

    Raises PycontainError, naming the step, for the first step that fails.
    """
    for turn, following in zip(turns, (*turns[1:], None), strict=True):
        perform = performers.get(turn.side)
        if perform is None:
            peer.wait(turn)
            continue
        for step in turn.steps:
            _perform(step, perform, times)
        if following is not None and following.side not in performers:
            peer.pass_turn()


def _perform(step: Step, perform: Callable[[Step], object], times: Times) -> None:
    began, position = time.perf_counter_ns(), len(times)
    try:
        perform(step)
    except PycontainError as error:
        raise error.in_step(step.name, step.place()) from None
    except Exception as error:
        raise in_step(error, step.name, step.place()) from error
    spent = (time.perf_counter_ns() - began) // 1000
    spent -= sum(entry[2] for entry in times[position:])  # of steps performed within this one
    times.insert(position, (step.side, step.name, spent))


def in_step(error: BaseException, name: str, place: str = "") -> PycontainError:
    """A new error with the same content, in the step of this name unless it names one."""
    return from_record(fault_of(error).record()).in_step(name, place)


class Performers:
    """
    Which function performs which step, for one side.

    Used as a decorator: `@child_step(steps.SetHostname)` above the function. Modules that perform
    steps fill it when they are imported.
    """

    def __init__(self, side: str) -> None:
        self.side = side
        self.functions: dict[type[Step], Callable[..., object]] = {}

    def __call__(
        self, kind: type[StepType]
    ) -> Callable[[Function[StepType, Context]], Function[StepType, Context]]:
        """The decorator for the function that performs this kind of step."""

        def register(function: Function[StepType, Context]) -> Function[StepType, Context]:
            self.functions[kind] = function
            return function

        return register

    def perform(self, step: Step, context: object) -> None:
        """Perform a step. Raises StepError if it has no function, and whatever that raises."""
        function = self.functions.get(type(step))
        if function is None:
            raise StepError(f"is a step that the {self.side} does not know", value=step.name)
        function(step, context)


parent_step = Performers("parent")
child_step = Performers("child")
