from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys

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


@pytest.mark.parametrize("words", [["list"], ["nonsense"], ["--version"], ["state", "x"]])
def test_a_log_that_cannot_be_opened_is_an_error_before_anything_is_done(tmp_path, capfd, words):
    path = tmp_path / "missing" / "log"
    assert fast.main(["--root", str(tmp_path), "--log", str(path), *words]) == 1
    found = capfd.readouterr()
    assert (found.out, found.err) == ("", f"pycontain: log: {path} does not exist\n")


def test_an_unusable_json_log_is_reported_as_json_on_standard_error(tmp_path, capfd):
    assert fast.main(["--log", str(tmp_path), "--log-format=json", "list"]) == 1
    assert json.loads(capfd.readouterr().err)["msg"] == f"log: {tmp_path} is a directory"


def test_a_log_that_can_be_opened_is_created_at_once(tmp_path):
    path = tmp_path / "log"
    assert fast.main(["--root", str(tmp_path), "--log", str(path), "list"]) == 0
    assert path.read_text() == ""


def test_a_log_that_vanishes_later_does_not_hide_the_error(tmp_path, capfd):
    path = tmp_path / "missing" / "log"
    Log(str(path), "text", debug=False).error(SpecError("is wrong", at="x"))
    lines = capfd.readouterr().err.splitlines()
    assert lines == [f"pycontain: log: {path} does not exist", "pycontain: x is wrong"]


def test_a_log_in_a_fifo_without_a_reader_is_an_error_at_once(tmp_path, capfd):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    assert fast.main(["--log", str(path), "list"]) == 1
    said = f"pycontain: log: {path} is a socket, or a FIFO that nobody reads\n"
    assert capfd.readouterr().err == said


def test_a_fifo_with_a_reader_can_be_the_log(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    assert fast.main(["--log", str(path), "--log-format=json", "nonsense"]) == 1
    assert json.loads(os.read(reader, 4096))["level"] == "error"
    os.close(reader)


def test_a_log_in_a_fifo_does_not_wait_for_its_reader(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(reader, bytes(4096))
    log = Log(str(path), "text", debug=False)
    log.check()
    log.warning("is dropped")
    os.close(reader)


def test_standard_error_can_be_named_as_the_log(tmp_path):
    """/dev/stderr is a link, and one to a descriptor, in directories that are root's or ours."""
    path = tmp_path / "stderr"
    code = "import sys; from pycontain.cli import fast; sys.exit(fast.main(sys.argv[1:]))"
    for name in ("/dev/stderr", "/proc/self/fd/2"):
        path.unlink(missing_ok=True)
        command = [sys.executable, "-c", code, "--log", name, "--log-format=json", "nonsense"]
        with path.open("ab") as stderr:
            done = subprocess.run(command, stderr=stderr, check=False, timeout=60)
        assert done.returncode == 1
        assert json.loads(path.read_text().splitlines()[0])["level"] == "error"


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
        Log(path, "", debug=False).error(SpecError("is wrong", at="x", value=ESCAPES))
        assert capfd.readouterr().err == f"pycontain: x = {SHOWN} is wrong\n"
    Log("", "", debug=False).warning(f"{ESCAPES}\nnew")
    assert capfd.readouterr().err == f"pycontain: warning: {SHOWN} new\n"


def test_standard_error_has_runcs_lines_for_those_who_ask_for_text_or_details(capfd):
    """What people read otherwise would not be parsed: key=value, control characters escaped."""
    for form, debug in (("text", False), ("", True), ("text", True)):
        Log("", form, debug=debug).error(SpecError("is wrong", at="x", value=ESCAPES))
        line = capfd.readouterr().err
        assert re.fullmatch(rf'time="{RFC_3339.pattern}" level=error msg="x = .* is wrong"\n', line)
        assert not set(line) & set("\x1b\x07\x9b\x00\r\x08")
    Log("", "text", debug=True).detail("more")
    assert 'level=debug msg="more"\n' in capfd.readouterr().err


def test_control_characters_are_kept_in_json(tmp_path, capfd):
    path = tmp_path / "log"
    Log(str(path), "json", debug=False).warning(ESCAPES)
    Log("", "json", debug=False).warning(ESCAPES)
    assert [one["msg"] for one in records(path)] == [ESCAPES]
    assert json.loads(capfd.readouterr().err)["msg"] == ESCAPES
