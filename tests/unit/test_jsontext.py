"""jsontext agrees with the json package, without importing it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycontain.lean import jsontext

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)

few = settings(max_examples=60, deadline=None)


def refuse(name: str) -> None:
    raise ValueError(name)


@few
@given(VALUES)
def test_dumps_writes_what_the_json_package_writes_and_loads_reads_it(value: object) -> None:
    text = jsontext.dumps(value)
    assert text == json.dumps(value, separators=(",", ":"))
    assert text.isascii()
    assert text.isprintable()
    assert jsontext.loads(text) == value


@few
@given(VALUES)
def test_pretty_writes_what_the_json_package_writes_and_loads_reads_it(value: object) -> None:
    text = jsontext.pretty(value)
    assert text == json.dumps(value, indent=2)
    assert jsontext.loads(text) == value


@few
@given(VALUES, st.sampled_from([None, 1, "\t"]))
def test_spacing_in_json_does_not_matter(value: object, indent: int | str | None) -> None:
    assert jsontext.loads(f" \n{json.dumps(value, indent=indent)}\r\n\t ") == value


@settings(deadline=None)
@given(st.text(alphabet='{}[]",:0123456789.eE+-truefalsn \\u') | st.text())
def test_any_text_is_read_or_refused_as_by_the_json_package(text: str) -> None:
    try:
        wanted = json.loads(text, parse_constant=refuse)
    except ValueError:
        with pytest.raises(ValueError):
            jsontext.loads(text)
    else:
        if "inf" in repr(wanted):
            return
        assert jsontext.loads(text) == wanted


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "[NaN]"])
def test_javascript_constants_are_not_json(text: str) -> None:
    with pytest.raises(ValueError, match="is not JSON"):
        jsontext.loads(text)


@pytest.mark.parametrize("text", ["1e999", '{"a": [-1e999]}', "1" * 400 + ".0"])
def test_a_number_beyond_a_double_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is too large"):
        jsontext.loads(text)


def test_the_position_of_an_error_is_reported() -> None:
    with pytest.raises(ValueError, match=r"line 2 column 6 \(char 7\)"):
        jsontext.loads('{\n"a": }')


@pytest.mark.parametrize("text", ["", " ", "{", "[", '"', "{}x", "[1,]", "'a'", "\ufeff1"])
def test_malformed_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        jsontext.loads(text)


def test_too_deep_nesting_is_refused() -> None:
    with pytest.raises(ValueError, match="nesting is too deep"):
        jsontext.loads("[" * 100_000)


@pytest.mark.parametrize("value", [b"x", {1, 2}, object()])
def test_a_value_without_a_json_form_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match="has no JSON form"):
        jsontext.dumps(value)


def test_a_tuple_is_written_as_a_list() -> None:
    assert jsontext.dumps(((), (1,))) == "[[],[1]]"
    assert jsontext.pretty({"a": (1,)}) == '{\n  "a": [\n    1\n  ]\n}'


def test_the_json_package_is_not_imported_for_valid_text() -> None:
    program = (
        "import sys; from pycontain.lean import jsontext;"
        "jsontext.loads(jsontext.dumps({'a': [1.5]}));"
        "sys.exit('json' in sys.modules or 're' in sys.modules)"
    )
    subprocess.run([sys.executable, "-S", "-c", program], check=True)


# --- from another process ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"", b"[1]", b"null", b"{", b"\xff", b'{"a": 1e999}', b"[" * 9999]
)
def test_json_that_is_not_an_object_is_a_value_error(data):
    with pytest.raises(ValueError):
        jsontext.object_of(data)


@pytest.mark.parametrize(
    ("text", "shape", "fits"),
    [
        ("1", int, True), ("true", int, False), ("1.5", int, False), ("null", object, True),
        ("[]", [int], True), ("[1, 2]", [int], True), ('[1, "2"]', [int], False), ("{}", [int], False),
        ('["a", 1]', (str, int), True), ('["a"]', (str, int), False), ('["a", 1, 1]', (str, int), False),
        ('{"a": 1}', {"a": int}, True), ('{"a": 1, "b": 1}', {"a": int}, False),
        ("{}", {"a": int}, False), ("[]", {"a": int}, False), ('{"a": "b"}', {"a": int}, False),
        ('{"a": 1, "b": 2}', {str: int}, True), ('{"a": 1, "b": "2"}', {str: int}, False),
        ("null", {int, None}, True), ("0", {int, None}, True), ("false", {int, None}, False),
        ('"run"', {"run", "create"}, True), ('"exec"', {"run", "create"}, False),
        ('{"a": [["b", null]]}', {"a": [(str, {int, None})]}, True),
    ],
)  # fmt: skip
def test_a_value_fits_a_shape_or_not(text, shape, fits):
    assert jsontext.fits(jsontext.loads(text), shape) is fits
