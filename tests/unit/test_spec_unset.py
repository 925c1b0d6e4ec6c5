"""A property that is null, or text that is empty, is unset: Go makes no difference either."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest

from pycontain.errors import SpecError
from pycontain.lean.record import Record
from pycontain.runtime import update
from pycontain.spec import parse, rare_records, records
from pycontain.state.directory import StateDir
from tests.unit.spec_configs import FULL, MINIMAL, edited, without

RECORDS = {
    name: kind
    for module in (records, rare_records)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, Record) and kind is not Record
}
FIELDS = [(name, field) for name, kind in RECORDS.items() for field in kind.FIELDS if field != "at"]
TEXT = ("str", *parse._CHOICES)


def example(annotation):
    """A valid JSON value for a field, not its default."""
    annotation = annotation.removesuffix(" | None")
    if annotation.startswith("tuple["):
        return [example(annotation[len("tuple[") : -len(", ...]")])]
    if annotation.startswith("dict[str, "):
        return {"key": example(annotation[len("dict[str, ") : -1])}
    if annotation in RECORDS:
        return whole(RECORDS[annotation])
    values = {"str": "text", "bool": True}
    values |= {name: high for name, (_, high) in parse._RANGES.items()}
    values |= {name: choices[0] for name, choices in parse._CHOICES.items()}
    return values[annotation]


def whole(kind):
    """A JSON object with every property of a record."""
    return {
        field.rstrip("_"): example(annotation)
        for field, annotation in kind.FIELDS.items()
        if field != "at"
    }


def outcome(kind, value):
    """The record, or the error's place and reason."""
    try:
        return parse.read(kind, value, "here")
    except SpecError as error:
        return error.fault.at, error.fault.why


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_null_equals_leaving_out_in_every_field(name, field) -> None:
    kind, key = RECORDS[name], field.rstrip("_")
    full = whole(kind)
    missing = {other: value for other, value in full.items() if other != key}
    assert outcome(kind, full | {key: None}) == outcome(kind, missing)
    assert outcome(kind, full) != outcome(kind, missing), "the example would not show a difference"
    assert isinstance(outcome(kind, full), Record)


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_empty_text_equals_leaving_out_and_nothing_else_that_is_empty_text_is_valid(
    name, field
) -> None:
    kind, key = RECORDS[name], field.rstrip("_")
    full = whole(kind)
    missing = outcome(kind, {other: value for other, value in full.items() if other != key})
    empty = outcome(kind, full | {key: ""})
    if kind.FIELDS[field].removesuffix(" | None") not in TEXT:
        assert empty[0] == f"here.{key}"
        assert empty[1].startswith("is not ")
    elif field in kind.DEFAULTS:
        assert empty == missing
    else:
        assert missing == (f"here.{key}", "is required but missing")
        assert empty == (f"here.{key}", "is required but empty")


def test_the_tests_cover_every_record_of_a_configuration() -> None:
    found, left = set(), ["Spec"]
    while left:
        name = left.pop()
        found.add(name)
        words = re.findall(r"\w+", " ".join(RECORDS[name].FIELDS.values()))
        left += (set(words) & RECORDS.keys()) - found
    assert found == RECORDS.keys()


@pytest.mark.parametrize(
    ("path", "same"),
    [
        ("process.args[0]", ""),
        ("process.capabilities.bounding[0]", ""),
        ("linux.sysctl[net.ipv4.ip_forward]", ""),
        ("annotations[org.example.key]", ""),
        ("linux.timeOffsets.boottime", {}),
        ("linux.seccomp.syscalls[0].names[0]", ""),
    ],
)
def test_null_in_a_list_or_map_is_empty_as_in_go(path, same) -> None:
    read = [parse.parse(json.dumps(edited(FULL, path, value))) for value in (None, same)]
    assert read[0] == read[1] != parse.parse(json.dumps(FULL))


@pytest.mark.parametrize(
    ("path", "at", "why"),
    [
        ("mounts[0]", "mounts[0].destination", "is required but missing"),
        ("hooks.prestart[0]", "hooks.prestart[0].path", "is required but missing"),
        ("linux.namespaces[0]", "linux.namespaces[0].type", "is required but missing"),
        ("process.user.additionalGids[0]", "process.user.additionalGids[0]", "is not a whole"),
    ],
)
def test_null_in_a_list_is_no_way_around_what_is_required(path, at, why) -> None:
    with pytest.raises(SpecError) as caught:
        parse.parse(json.dumps(edited(FULL, path, None)))
    assert caught.value.fault.at == at
    assert caught.value.fault.why.startswith(why)


def test_a_configuration_that_leaves_everything_empty_is_the_minimal_one() -> None:
    nothing: dict[str, object] = {}
    for field, annotation in records.Spec.FIELDS.items():
        if field != "at":
            nothing[field] = "" if annotation.removesuffix(" | None") in TEXT else None
    assert parse.parse(json.dumps(nothing | MINIMAL)) == parse.parse(json.dumps(MINIMAL))
    for path in ("mounts", "process.env", "linux.resources", "hooks"):
        absent = parse.parse(json.dumps(without(FULL, path)))
        assert parse.parse(json.dumps(edited(FULL, path, None))) == absent


@pytest.mark.parametrize("linux", [{}, {"linux": None}, {"linux": {"resources": None}}])
def test_updated_limits_are_stored_where_none_were(tmp_path, linux) -> None:
    directory = StateDir(str(tmp_path / "root"), "x")
    directory.reserve()
    directory.save_config(json.dumps({**MINIMAL, **linux}))
    handle = SimpleNamespace(directory=directory)
    update._remember(handle, parse.read(records.Resources, {"pids": {"limit": 5}}, ""))
    assert json.loads(directory.load_config())["linux"]["resources"] == {"pids": {"limit": 5}}
    directory.close()
