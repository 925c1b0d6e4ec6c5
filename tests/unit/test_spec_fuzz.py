"""No configuration, however broken, makes parse and check raise anything but SpecError."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from pycontain.errors import SpecError
from pycontain.spec import check, parse
from tests.unit.spec_configs import FULL

KEYS = st.sampled_from(["type", "path", "names", "limit", "a.b", "", "é", "a\nb"]) | st.text()
WORDS = st.sampled_from(
    ["", "/", "..", "=", "pid", "net.x", "net/../x", "SCMP_ACT_NOTIFY", "idmap", "1.0.0-", "2MB"]
)
NUMBERS = st.sampled_from([0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**40])
LEAVES = (
    st.none()
    | st.booleans()
    | NUMBERS
    | st.integers()
    | st.floats()
    | WORDS
    | st.text(st.characters(), max_size=9)  # with lone surrogates, unlike plain st.text()
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def places(value, way=()):
    """The path to every value in the configuration, as keys and indexes."""
    yield way
    items = (
        value.items() if type(value) is dict else enumerate(value) if type(value) is list else ()
    )
    for key, inner in items:
        yield from places(inner, (*way, key))


PLACES = [way for way in places(FULL) if way]


def replaced(value, way, new):
    """The configuration with another value at this place, unless an earlier change removed it."""
    if not way:
        return new
    key = way[0]
    if type(value) is dict:
        return {**value, key: replaced(value.get(key), way[1:], new)}
    if type(value) is list and type(key) is int and key < len(value):
        return [*value[:key], replaced(value[key], way[1:], new), *value[key + 1 :]]
    return value


def survives(text: str) -> None:
    try:
        found = check.problems(parse.parse(text))
    except SpecError as error:
        found = [error]
    for error in found:
        assert type(error) is SpecError
        assert "\n" not in str(error)
        assert error.fault.at


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=4))
def test_a_mutated_configuration_is_read_or_refused(changes) -> None:
    config = FULL
    for way, value in changes:
        config = replaced(config, way, value)
    survives(json.dumps(config))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(json.dumps(FULL))), st.integers(0, 9), st.text(max_size=5))
def test_a_mutated_text_is_read_or_refused(start, length, inserted) -> None:
    text = json.dumps(FULL)
    survives(text[:start] + inserted + text[start + length :])


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused(text) -> None:
    survives(text)


def test_every_place_survives_every_kind_of_value() -> None:
    for way in PLACES:
        for value in (True, -1, 2**70, "", "x", [None], {"": None}):
            survives(json.dumps(replaced(FULL, way, value)))
