"""Parsing config.json to records: what is read, what is ignored, how errors are reported."""

from __future__ import annotations

import json
import sys

import pytest

from pycontain.errors import SpecError
from pycontain.spec import parse, records
from tests.unit.spec_configs import FULL, MINIMAL, edited, without


def error_of(text: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        parse.parse(text)
    assert "\n" not in str(caught.value)
    return caught.value


def test_fields_have_the_names_of_the_specification() -> None:
    spec = parse.parse(json.dumps(FULL))
    assert spec.hostname == "box"
    assert spec.process.args == ("sh", "")
    assert spec.process.ioPriority.class_ == "IOPRIO_CLASS_BE"
    assert spec.mounts[1].options == ("rbind", "ro")
    assert spec.linux.timeOffsets["monotonic"].secs == -5
    assert spec.linux.sysctl["net.ipv4.ip_forward"] == "1"


def test_every_record_knows_its_json_path() -> None:
    spec = parse.parse(json.dumps(FULL))
    assert spec.at == ""
    assert spec.hooks.prestart[0].at == "hooks.prestart[0]"
    assert spec.linux.seccomp.syscalls[1].at == "linux.seccomp.syscalls[1]"
    assert spec.linux.timeOffsets["boottime"].at == "linux.timeOffsets[boottime]"


def test_unknown_properties_are_ignored() -> None:
    config = edited(edited(FULL, "windows", {"a": [1]}), "process.user.username", 7)
    assert parse.parse(json.dumps(config)) == parse.parse(json.dumps(FULL))


REQUIRED = [
    "ociVersion",
    "root.path",
    "mounts[0].destination",
    "process.cwd",
    "process.consoleSize.height",
    "process.rlimits[0].hard",
    "process.scheduler.policy",
    "process.ioPriority.class",
    "hooks.poststop[0].path",
    "linux.namespaces[0].type",
    "linux.devices[0].path",
    "linux.resources.devices[0].allow",
    "linux.resources.hugepageLimits[0].limit",
    "linux.resources.blockIO.weightDevice[0].major",
    "linux.seccomp.defaultAction",
    "linux.seccomp.syscalls[0].args[0].op",
    "linux.personality.domain",
]


@pytest.mark.parametrize("path", REQUIRED)
def test_a_missing_required_property_is_named(path) -> None:
    error = error_of(json.dumps(without(FULL, path)))
    assert (error.fault.at, error.fault.why) == (path, "is required but missing")


WRONG = [
    ("mounts", {}, "a list"),
    ("mounts[0]", "proc", "an object"),
    ("process", [], "an object"),
    ("process.args[0]", 7, "a string"),
    ("process.args[1]", "a\0b", "a string without NUL"),
    ("process.args[1]", "\ud800", "valid Unicode"),
    ("process.args[1]", "\udc80", "valid Unicode"),
    ("process.terminal", 1, "true or false"),
    ("process.terminal", "true", "true or false"),
    ("process.user.uid", -1, "between 0 and 4294967294"),
    ("process.user.uid", 2**32, "between 0 and 4294967294"),
    ("process.user.uid", True, "a whole number"),
    ("process.user.uid", 1.0, "a whole number"),
    ("process.user.uid", "0", "a whole number"),
    ("process.rlimits[0].hard", 2**64, "between 0 and 18446744073709551615"),
    ("process.scheduler.policy", "SCHED_FAST", "one of SCHED_OTHER"),
    ("linux.namespaces[0].type", "net", "one of pid, network"),
    ("linux.namespaces[0].type", ["pid"], "one of pid, network"),
    ("linux.seccomp.defaultAction", "allow", "one of SCMP_ACT_KILL"),
    ("linux.rootfsPropagation", "rshare", "one of shared"),
    ("process.terminal", "", "true or false"),
    ("process.args", "", "a list"),
    ("process.oomScoreAdj", "", "a whole number"),
    ("linux.resources", "", "an object"),
    ("annotations", [], "an object"),
    ("annotations[k]", 5, "a string"),
]


@pytest.mark.parametrize(("path", "value", "wanted"), WRONG)
def test_a_wrong_value_is_shown_with_its_path(path, value, wanted) -> None:
    error = error_of(json.dumps(edited(FULL, path, value)))
    assert error.fault.at == path
    assert error.fault.why.startswith(f"is not {wanted}")
    assert error.fault.value == json.dumps(value, separators=(",", ":"))


def test_a_long_value_is_cut_in_the_message() -> None:
    error = error_of(json.dumps(edited(FULL, "process.args", "x" * 5000)))
    assert len(str(error)) < 120
    assert error.fault.value.endswith("...")


def test_a_key_cannot_break_the_line_of_a_message() -> None:
    error = error_of(json.dumps(edited(MINIMAL, "annotations", {"a\nb\x1b[2J": 5})))
    assert error.fault.at == r'annotations["a\nb\u001b[2J"]'


def test_a_key_with_a_nul_is_refused() -> None:
    error = error_of(json.dumps(edited(MINIMAL, "annotations", {"a\0b": "c"})))
    assert error.fault.why == "is not a string without NUL"


@pytest.mark.parametrize("text", ["null", "[]", "7", '"x"', "true"])
def test_a_text_that_is_not_an_object_is_reported_with_the_file(text) -> None:
    assert str(error_of(text)).startswith(f"config.json = {text} is not an object")


@pytest.mark.parametrize("text", ["", "{", '{"a": }', "{} {}", "\ufeff{}", '{"a": NaN}'])
def test_a_broken_text_is_reported_with_the_file(text) -> None:
    assert str(error_of(text)).startswith("config.json is not JSON: ")


def test_a_number_too_large_for_json_is_refused() -> None:
    assert "is too large" in str(error_of('{"ociVersion": 1e999}'))
    assert "is too large" in str(error_of('{"ociVersion": -1e999}'))


def test_deep_nesting_is_an_error_like_any_other() -> None:
    # every depth: near the limit, what could still be read cannot be written into the message
    for depth in (*range(1, sys.getrecursionlimit() + 10), 100_000):
        error_of('{"ociVersion": ' + "[" * depth + "]" * depth + "}")


def test_a_part_can_be_read_alone() -> None:
    process = parse.read_text(records.Process, '{"cwd": "/"}', "process")
    assert process.at == "process"
    with pytest.raises(SpecError, match=r"^process\.cwd is required"):
        parse.read_text(records.Process, "{}", "process")
    with pytest.raises(SpecError, match=r"^process is not JSON"):
        parse.read_text(records.Process, "", "process")
