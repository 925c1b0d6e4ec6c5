"""Walking through a plan's turns, and which side performs which step."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pycontain.errors import KernelError, StepError
from pycontain.init import filesystem
from pycontain.plan import steps
from pycontain.plan.walk import Peer, child_step, parent_step, turns_of, walk
from tests.steps import import_all

import_all()


class Here(steps.ParentStep):
    name = "here"


class There(steps.Step):
    name = "there"


SPAWN = steps.Spawn(flags=0, names=())
PLAN = [Here(why="1"), SPAWN, Here(why="2"), There(why="3"), There(why="4"), Here(why="5"), There()]


def sides(turns):
    return [(turn.side, len(turn.steps)) for turn in turns]


def test_a_plan_is_divided_after_the_spawn_and_where_the_side_changes():
    turns = turns_of(PLAN)
    expected = [("parent", 2), ("parent", 1), ("child", 2), ("parent", 1), ("child", 1)]
    assert sides(turns) == expected
    assert [step for turn in turns for step in turn.steps] == PLAN


def test_a_plan_may_continue_with_the_child_at_once():
    assert sides(turns_of([SPAWN, There()])) == [("parent", 1), ("child", 1)]


class Log(Peer):
    """What happens on one side, in order."""

    def __init__(self):
        self.events = []

    def perform(self, step):
        self.events.append(step.why or step.name)

    def wait(self, turn):
        self.events.append(f"wait for {turn.side}")

    def pass_turn(self):
        self.events.append("pass")


def walked(turns, *sides):
    log = Log()
    walk(turns, dict.fromkeys(sides, log.perform), log, [])
    return log.events


def test_each_side_performs_its_turns_and_waits_during_the_others():
    rest = turns_of(PLAN)[1:]
    assert walked(rest, "parent") == [
        "2", "pass", "wait for child", "5", "pass", "wait for child",
    ]  # fmt: skip
    assert walked(rest, "child") == [
        "wait for parent", "3", "4", "pass", "wait for parent", "there",
    ]  # fmt: skip


def test_a_process_that_performs_both_sides_does_not_wait():
    assert walked(turns_of(PLAN)[1:], "parent", "child") == ["2", "3", "4", "5", "there"]


def test_times_are_in_the_order_in_which_steps_began_and_do_not_overlap(monkeypatch):
    clock = iter(range(0, 100_000, 1000))
    monkeypatch.setattr("time.perf_counter_ns", lambda: next(clock))
    times = []

    def perform(step):
        if step is SPAWN:  # performs other steps inside, as a spawn by vfork does
            walk(turns_of(PLAN)[1:3], {"parent": len_of, "child": len_of}, Peer(), times)

    def len_of(step):
        pass

    walk(turns_of(PLAN)[:1], {"parent": perform}, Peer(), times)
    assert [name for _, name, _ in times] == ["here", "spawn", "here", "there", "there"]
    assert [spent for *_, spent in times] == [1, 7 - 3, 1, 1, 1]


@pytest.mark.parametrize(
    ("error", "kind", "line"),
    [
        (StepError("x", at="y"), StepError, "there: y x"),
        (StepError("x", step="inner"), StepError, "inner: x"),
        (OSError(2, "", "/x"), KernelError, "there: /x does not exist"),
        (ValueError("odd"), StepError, "there: ValueError: odd"),
    ],
)
def test_an_error_raised_in_a_step_names_the_step(error, kind, line):
    def fail(step):
        raise error

    with pytest.raises(kind) as caught:
        walk(turns_of(PLAN)[2:3], {"child": fail}, Peer(), [])
    assert str(caught.value) == line


def kinds(of):
    for kind in of.__subclasses__():
        if kind.name and kind.__module__.startswith("pycontain."):
            yield kind
        yield from kinds(kind)


@pytest.mark.parametrize("performers", [parent_step, child_step], ids=["parent", "child"])
def test_every_step_has_exactly_one_function_on_its_own_side(performers):
    wanted = {kind for kind in kinds(steps.Step) if kind.side == performers.side}
    assert set(performers.functions) == wanted
    assert len(set(performers.functions.values())) == len(wanted)


@pytest.mark.parametrize("performers", [parent_step, child_step], ids=["parent", "child"])
def test_a_step_of_some_plans_is_performed_in_the_module_that_is_imported_for_it(performers):
    """`launch.child.import_performers` finds it by the name of the step's module."""
    room = "launch" if performers.side == "parent" else "init"
    for kind, function in performers.functions.items():
        module = kind.__module__.rpartition(".")[2]
        if module == "filesystem":  # in several, which `init.filesystem` imports
            assert function.__module__.rpartition(".")[2] in vars(filesystem)
        elif module not in ("child", "parent"):
            assert function.__module__ == f"pycontain.{room}.{module}"


def test_a_step_is_found_by_name_before_its_module_is_imported():
    names = [
        kind.__name__ for kind in kinds(steps.Step) if kind.__name__ in vars(steps)["_MODULES"]
    ]
    assert len(names) > 20
    found = "; ".join(f"assert steps.{name}.__name__ == {name!r}" for name in names)
    code = f"from pycontain.plan import steps; {found}"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("performers", [parent_step, child_step], ids=["parent", "child"])
def test_a_step_without_a_function_is_refused(performers):
    class Strange(steps.Step):
        name = "strange"

    with pytest.raises(StepError, match=f"strange is a step that the {performers.side} does not"):
        performers.perform(Strange(), None)


# vm: of a container whose program runs in a VM, the first process becomes its monitor
CHILDS_ROOMS = {"errors", "hooks", "init", "kernel", "lean", "plan", "vm", "wire"}
CHILDS_PLAN = ("pycontain.plan.steps", "pycontain.plan.walk")


def test_the_childs_steps_import_nothing_of_the_parents():
    code = """
import pkgutil, sys
import pycontain.init
for module in pkgutil.iter_modules(pycontain.init.__path__):
    __import__(f"pycontain.init.{module.name}")
print(*(name for name in sys.modules if name.startswith("pycontain.")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stdout.split()
    assert {name.split(".")[1] for name in modules} <= CHILDS_ROOMS
    plan = [name for name in modules if name.startswith("pycontain.plan.")]
    assert [name for name in plan if not name.startswith(CHILDS_PLAN)] == []
