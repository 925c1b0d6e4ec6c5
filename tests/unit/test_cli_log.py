from __future__ import annotations

import json
import re
import stat

import pytest

from pycontain.cli import fast
from pycontain.cli.log import Log
from pycontain.errors import SpecError

NASTY = 'a "quoted" \\ value\nwith two lines, a bell \a, \u2028 and half a \ud800 letter'
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_line_of_a_json_log_is_an_object_that_engines_read(tmp_path):
    path = tmp_path / "log"
    log = Log(str(path), "json", debug=True)
    log.detail("called")
    log.warning(NASTY)
    log.error(SpecError("is wrong", at="process.cwd", value=NASTY, remedy="write a path"))
    log.error(ValueError(NASTY))
    found = records(path)
    assert [one["level"] for one in found] == ["debug", "warning", "error", "error", "debug"]
    assert all(set(one) == {"level", "msg", "time"} for one in found)
    assert all(RFC_3339.fullmatch(one["time"]) for one in found)
    assert found[1]["msg"] == NASTY
    assert found[2]["msg"].startswith("process.cwd = a")
    assert found[2]["msg"].endswith("is wrong; write a path")
    assert "\n" not in found[2]["msg"]


def test_a_text_log_has_runcs_format(tmp_path):
    path = tmp_path / "log"
    Log(str(path), "text", debug=False).error(SpecError("is missing", at="root", remedy="add it"))
    pattern = r'time="(\S+)" level=error msg="root is missing; add it"\n'
    found = re.fullmatch(pattern, path.read_text())
    assert found
    assert RFC_3339.fullmatch(found[1])


def test_a_log_is_appended_to(tmp_path):
    path = tmp_path / "log"
    path.write_text("before\n")
    Log(str(path), "json", debug=False).warning("one")
    Log(str(path), "json", debug=False).warning("two")
    first, *others = path.read_text().splitlines()
    assert first == "before"
    assert [json.loads(line)["msg"] for line in others] == ["one", "two"]


def test_a_new_log_is_writable_by_its_owner_alone(tmp_path):
    path = tmp_path / "log"
    Log(str(path), "json", debug=False).warning("one")
    assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0


def test_an_error_goes_to_the_log_and_to_standard_error(tmp_path, capfd):
    path = tmp_path / "log"
    assert fast.main(["--log", str(path), "--log-format", "json", "nonsense"]) == 1
    [record] = records(path)
    assert record["level"] == "error"
    assert capfd.readouterr().err == f"pycontain: {record['msg']}\n"


def test_a_warning_goes_to_the_log_alone(tmp_path, capfd):
    Log(str(tmp_path / "log"), "text", debug=False).warning("mind")
    assert capfd.readouterr().err == ""


def test_without_a_file_the_json_goes_to_standard_error(capfd):
    assert fast.main(["--log-format=json", "nonsense"]) == 1
    assert json.loads(capfd.readouterr().err)["level"] == "error"


def test_an_error_in_the_flags_before_the_log_is_known_is_still_printed(capfd):
    assert fast.main(["--log-format", "xml"]) == 1
    assert "--log-format = xml" in capfd.readouterr().err


def test_a_log_that_cannot_be_written_does_not_hide_the_error(tmp_path, capfd):
    path = tmp_path / "missing" / "log"
    assert fast.main(["--log", str(path), "nonsense"]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == f"pycontain: log: {path} does not exist"
    assert lines[1].startswith("pycontain: nonsense is not a command")


@pytest.mark.parametrize("debug", [True, False])
def test_details_are_logged_only_for_debug(tmp_path, debug):
    path = tmp_path / "log"
    Log(str(path), "json", debug=debug).detail("called")
    assert path.exists() == debug


ESCAPES = "\x1b]0;title\x07 \x7f \x9b2J \x00 \r\x08 a\ttab"
SHOWN = "\\x1b]0;title\\x07 \\x7f \\x9b2J \\x00  \\x08 a\ttab"


def test_control_characters_are_escaped_for_a_terminal(tmp_path, capfd):
    """The text may come from an image: the name of an interpreter, for example."""
    for path in ("", str(tmp_path / "log")):
        Log(path, "text", debug=False).error(SpecError("is wrong", at="x", value=ESCAPES))
        assert capfd.readouterr().err == f"pycontain: x = {SHOWN} is wrong\n"
    Log("", "text", debug=True).warning(f"{ESCAPES}\nnew")
    Log("", "text", debug=True).detail(f"{ESCAPES}\nnew")
    assert capfd.readouterr().err == (
        f"pycontain: warning: {SHOWN} new\npycontain: debug: {SHOWN} new\n"
    )


def test_control_characters_are_kept_in_json(tmp_path, capfd):
    path = tmp_path / "log"
    Log(str(path), "json", debug=False).warning(ESCAPES)
    Log("", "json", debug=False).warning(ESCAPES)
    assert [one["msg"] for one in records(path)] == [ESCAPES]
    assert json.loads(capfd.readouterr().err)["msg"] == ESCAPES
