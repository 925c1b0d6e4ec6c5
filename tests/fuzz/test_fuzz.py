"""
No input makes pycontain fail with anything but an error of its own, or leaves part of a container.

Hypothesis varies the structure of what is read; the inputs that `make fuzz` has found are in
`found`. Configurations that are run for real are mutated from a seed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycontain.cli import fast, table
from tests.fuzz import contained, targets
from tests.fuzz.__main__ import FOUND, LAUNCHES
from tests.fuzz.mutate import VALUES, places
from tests.fuzz.targets import SEEDS, TARGETS, words
from tests.unit.test_spec_fuzz import VALUES as NESTED
from tests.unit.test_spec_fuzz import replaced

SEED = int(os.environ.get("PYCONTAIN_SEED", "0"))
LAUNCHED = int(os.environ.get("PYCONTAIN_LAUNCHES", "50"))
few = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,  # what is new is found by `make fuzz`
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


# --- what was found ------------------------------------------------------------------------------


def found_inputs() -> Iterator[Any]:
    """Every input that once failed, as a parameter."""
    for path in sorted(FOUND.glob("*/*")):
        target = path.parent.name
        if target != LAUNCHES:
            yield pytest.param(path, id=f"{target}/{path.name}")


@pytest.mark.parametrize("path", list(found_inputs()))
def test_an_input_that_once_failed_passes(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_are_accepted(name, monkeypatch) -> None:
    errors: list[Exception] = []
    monkeypatch.setattr(targets, "refused", errors.append)
    for data in SEEDS[name]:
        TARGETS[name](data)
    reported = [data for data in SEEDS[name] if name == "child-message" and b'"fault"' in data]
    assert len(errors) == len(reported), errors


def test_a_target_fails_when_its_reader_does_not_check(monkeypatch) -> None:
    """The control: with a reader that does not check, they are found."""
    monkeypatch.setattr("tests.fuzz.targets.check_resources", lambda new: new.missing)
    with pytest.raises(AttributeError):
        TARGETS["resources"](SEEDS["resources"][0])


# --- structure -----------------------------------------------------------------------------------


def varied(name: str) -> st.SearchStrategy[bytes]:
    """The target's JSON texts with other values in one to three places."""
    sound = [json.loads(data) for data in SEEDS[name]]
    changes = [(text, way) for text in sound for way in places(text) if way]

    def made(change: tuple[Any, tuple[str | int, ...]], new: Any, more: list[Any]) -> bytes:
        text, way = change
        wanted = replaced(text, way, new)
        for (_, other), value in more:
            wanted = replaced(wanted, other, value)
        return json.dumps(wanted).encode()

    values = NESTED | st.sampled_from(VALUES)
    change = st.sampled_from(changes)
    return st.builds(made, change, values, st.lists(st.tuples(change, values), max_size=2))


@pytest.mark.parametrize("name", ["config", "process", "resources"])
@few
@given(data=st.data())
def test_json_with_other_values_is_read_or_refused(name, data) -> None:
    TARGETS[name](data.draw(varied(name)))


@pytest.mark.parametrize("name", ["config", "process", "resources", "command-line", "state"])
@few
@given(data=st.data())
def test_text_with_changed_parts_is_read_or_refused(name, data) -> None:
    text = data.draw(st.sampled_from(SEEDS[name]))
    start = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 9))
    new = data.draw(st.sampled_from(words(name)).map(str.encode) | st.binary(max_size=4))
    TARGETS[name](text[:start] + new + text[start + length :])


MESSAGES = st.dictionaries(
    st.sampled_from(["done", "exec", "fault", "errno", "cases", "hook", "alive", "go", "x"]),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["why", "kind", "status", "errno", "step", "at", "x"]),
                inner | st.sampled_from(["KernelError", "Fault", "object"]),
                max_size=4,
            )
        ),
        max_leaves=6,
    ),
    max_size=3,
)


@pytest.mark.parametrize("name", ["child-message", "parent-message"])
@few
@given(messages=st.lists(MESSAGES, max_size=3))
def test_messages_of_other_shapes_are_read_or_refused(name, messages) -> None:
    TARGETS[name](b"".join(json.dumps(message).encode() + b"\n" for message in messages))


# --- the command line ----------------------------------------------------------------------------

FLAGS = sorted(
    {
        f"--{flag.name}"
        for command in table.COMMANDS.values()
        for flag in (*command.flags, *table.GLOBALS)
    }
)
WORDS = (
    st.sampled_from([*table.COMMANDS, *FLAGS])
    | st.sampled_from(FLAGS).flatmap(lambda flag: st.text(max_size=4).map(f"{flag}=".__add__))
    | st.sampled_from(["-", "--", "x", "", "-5", "3", "true", "--=", "-é", "\udcff", "a\nb"])
    | st.text(max_size=5)
)


@few
@given(words=st.lists(WORDS, max_size=7))
def test_any_command_line_ends_with_a_status_and_one_line(words, monkeypatch, capfd) -> None:
    """No command is called, and no log opened."""
    monkeypatch.setattr(fast, "call", lambda command, settings, values: 0)
    monkeypatch.setattr(fast, "_human_main", lambda words: 0)
    monkeypatch.setattr(fast, "_check_log", lambda settings: None)
    if any("--log" in word for word in words):
        words = [word for word in words if "--log" not in word]
    status = fast.main(words)
    lines = capfd.readouterr().err.splitlines(keepends=True)
    said = "".join(line for line in lines if not line.startswith("pycontain: debug: "))
    assert 0 <= status <= 255
    assert (status != 0) == (said.count("\n") == 1), said
    assert not said or said.startswith("pycontain: ")
    assert "Traceback" not in said


# --- containers ----------------------------------------------------------------------------------


@pytest.mark.needs_root
def test_mutated_configurations_leave_no_part_of_a_container(runtime, bundle) -> None:
    print(f"PYCONTAIN_SEED={SEED}, {LAUNCHED} configurations")
    found = [
        text for texts in contained.tries(runtime, bundle, SEED, 600, LAUNCHED) for text in texts
    ]
    assert found == []


@pytest.mark.needs_root
def test_configurations_that_once_failed_leave_no_part_of_a_container(runtime, bundle) -> None:
    for path in FOUND.glob(f"{LAUNCHES}/*"):
        for verb in ("run", "create"):
            config = json.loads(path.read_text())
            assert contained.complaints(runtime, bundle("true"), config, verb) == [], path
