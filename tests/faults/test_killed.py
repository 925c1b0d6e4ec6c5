"""
Whenever a process of ours is killed, `delete --force` removes what it has left.

SIGKILL reaches the command itself, or what it has forked, at the steps of a launch and at the
system calls of the other commands. PYCONTAIN_SEED chooses a few of these moments for each command;
with PYCONTAIN_FAULTS=full (`make faults`) it is each call of each.
"""

from __future__ import annotations

import pytest

from pycontain.runtime import delete
from tests.faults import figures
from tests.faults.binding import HALT, KILL, STEP, Call, Fault
from tests.faults.sample import FULL, enough, sample
from tests.faults.trial import Trials
from tests.faults.verbs import LAUNCHES, VERBS

pytestmark = pytest.mark.needs_root

MOMENTS, HALTS = 8, 4  # of each command


def moments(trials: Trials, most: int) -> list[Call]:
    """The calls at which something is killed, so many at most unless all are to be tried."""
    steps = [call for call in trials.calls if call.name == STEP]
    return sample(trials.calls if FULL or not steps else steps, most, trials.verb.words)


@pytest.mark.parametrize("trials", VERBS, indirect=True)
def test_a_process_killed_at_any_moment_leaves_what_can_be_deleted(trials):
    found, calls = [], moments(trials, MOMENTS)
    for call in calls:
        fault = Fault(call.process, call.call, KILL)
        found += [f"{fault}, {call.name}: {text}" for text in trials.complaints(fault)]
    figures.add("killed", trials.name, trials.faults)
    assert found == []
    assert enough(trials.faults, len(calls))


@pytest.mark.parametrize("goes_on", [True, False], ids=["and then goes on", "until the end"])
@pytest.mark.parametrize("trials", LAUNCHES, indirect=True)
def test_a_command_killed_while_its_child_halts_leaves_what_can_be_deleted(trials, goes_on):
    found, calls = [], moments(trials, HALTS)
    for call in calls:
        fault = Fault(call.process, call.call, HALT)
        complaints = trials.complaints_of_killed(fault, goes_on=goes_on)
        found += [f"{fault}, {call.name}: {text}" for text in complaints]
    figures.add("halted", trials.name, trials.faults)
    assert found == []
    assert enough(trials.faults, len(calls))


# --- moments between two steps -----------------------------------------------------------------------


def after(trials: Trials, *names: str) -> Call:
    """The first call of the command with the last of these names, after one with each before it."""
    calls = iter(call for call in trials.calls if call.process == 0)
    for name, _, detail in (text.partition(" ") for text in names):
        found = next(call for call in calls if call.name == name and detail in call.detail)
    return found


def within(trials: Trials, step: str) -> list[Call]:
    """The calls of the command in one of its steps."""
    ours = [call for call in trials.calls if call.process == 0]
    first = ours.index(after(trials, f"step {step}"))
    steps = (number for number, call in enumerate(ours) if call.name == STEP and number > first)
    return ours[first : next(steps)]


@pytest.mark.parametrize("step", ["reserve", "cgroup"])
@pytest.mark.parametrize("trials", ["run", "create"], indirect=True)
def test_a_command_killed_before_its_state_is_complete_can_be_undone(trials, step):
    """Such as between creating the cgroup and telling in state.json that it did."""
    calls = within(trials, step)
    assert any(call.name == "mkdir" for call in calls)
    found = [trials.complaints(Fault(call.process, call.call, KILL)) for call in calls]
    assert found == [[]] * len(calls)


@pytest.mark.parametrize("trials", ["create"], indirect=True)
def test_a_command_killed_while_it_writes_the_pid_file_can_be_undone(trials):
    calls = within(trials, "pid file")
    assert any(call.name == "write" for call in calls)
    found = [trials.complaints(Fault(call.process, call.call, KILL)) for call in calls]
    assert found == [[]] * len(calls)


@pytest.mark.parametrize(
    "trials", ["run", "create", "run, no cgroup", "create, no cgroup"], indirect=True
)
def test_a_child_that_never_begins_does_not_keep_the_lock(trials, monkeypatch):
    """Its pid is not recorded yet, but its cgroup is; without one, it is looked for."""
    monkeypatch.setattr(delete, "_PATIENCE", 0.5)
    first = next((call for call in trials.calls if call.process == 1), None)
    call = first or after(trials, "spawn", "close")  # a child of vfork makes its parent's calls
    assert trials.complaints_of_killed(Fault(call.process, call.call, HALT), goes_on=False) == []


@pytest.mark.control
@pytest.mark.parametrize("trials", ["create, no cgroup"], indirect=True)
def test_a_naive_delete_leaves_a_child_that_is_not_recorded(trials, monkeypatch):
    monkeypatch.setattr(delete, "_PATIENCE", 0.5)
    monkeypatch.setattr(delete, "_kill_unrecorded", lambda container: None)
    call = next(call for call in trials.calls if call.process == 1)
    assert trials.complaints_of_killed(Fault(call.process, call.call, HALT), goes_on=False)
