from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import subprocess
import sys
from types import ModuleType

import pytest

from pycontain.cli import fast, table
from pycontain.errors import ProgramError, StateError
from pycontain.kernel import seal
from pycontain.options import Options
from pycontain.plan.request import Request


@pytest.fixture
def runtime(monkeypatch):
    """Replaces one verb of the runtime with a function."""
    monkeypatch.setattr(seal, "ensure", lambda: None)  # it would execute the tests again

    def replace(module, function):
        if module == "run":  # it imports the function: it is imported anew, and put back afterwards
            importlib.import_module("pycontain.cli.run")
            monkeypatch.delitem(sys.modules, "pycontain.cli.run")
        name = f"pycontain.runtime.{module}"
        stub = ModuleType(name)
        setattr(stub, function.__name__, function)
        monkeypatch.setitem(sys.modules, name, stub)

    return replace


def test_the_version_is_printed_in_the_lines_that_engines_parse(capfd):
    assert fast.main(["--version"]) == 0
    first, *others = capfd.readouterr().out.splitlines()
    assert first == f"pycontain version {table.VERSION}"
    assert dict(line.split(": ") for line in others)["spec"].startswith("1.")


def test_a_verb_gets_the_options_and_its_flags(runtime):
    def kill(options, id, signal, all, regex):
        shown = Options(root="/r", cgroup_manager="disabled", debug=True)
        assert options == shown.replace(warn=options.warn, detail=options.detail)
        assert (id, signal, all, regex) == ("c1", "KILL", True, False)

    runtime("kill", kill)
    line = "--root /r --debug --cgroup-manager disabled kill --all c1 KILL"
    assert fast.main(line.split()) == 0


def test_an_object_is_printed_as_json(runtime, capfd):
    def state(options, id):
        return {"id": id, "note": "höhö\n"}

    runtime("state", state)
    assert fast.main(["state", "c1"]) == 0
    assert capfd.readouterr().out == '{\n  "id": "c1",\n  "note": "h\\u00f6h\\u00f6\\n"\n}\n'


def test_the_exit_status_of_run_is_the_programs(runtime):
    def run(options, request, on_timing):
        assert request == Request(id="c1", keep=True)
        assert on_timing is None
        return 42

    runtime("run", run)
    assert fast.main(["run", "--keep", "c1"]) == 42


def test_timing_goes_to_standard_error(runtime, capfd):
    def run(options, request, on_timing):
        on_timing([("parent", "clone", 250), ("child", "mount /proc", 1250)])
        return 0

    runtime("run", run)
    assert fast.main(["run", "--timing", "c1"]) == 0
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "mount /proc" in shown.err
    assert "1500" in shown.err


def test_a_fault_is_one_line_and_sets_the_exit_status(runtime, capfd):
    def start(options, id):
        raise ProgramError("no such file or directory", at="sh", remedy="install it\nor not")

    runtime("start", start)
    assert fast.main(["start", "c1"]) == 127
    assert capfd.readouterr().err == (
        "pycontain: sh no such file or directory; install it or not\n"
    )


def test_an_unexpected_error_is_one_line_and_debug_shows_where(runtime, capfd):
    def start(options, id):
        raise TypeError("oops")

    runtime("start", start)
    assert fast.main(["start", "c1"]) == 1
    assert capfd.readouterr().err == "pycontain: TypeError: oops\n"
    assert fast.main(["--debug", "start", "c1"]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_a_missing_file_does_not_look_like_a_missing_program(runtime, capfd):
    def start(options, id):
        os.stat("/nowhere/at/all")

    runtime("start", start)
    assert fast.main(["start", "c1"]) == 1
    assert capfd.readouterr().err == "pycontain: /nowhere/at/all does not exist\n"


def test_a_usage_error_has_status_1():
    assert fast.main(["create"]) == 1
    assert fast.main(["nonsense"]) == 1
    assert fast.main(["--nonsense"]) == 1


def test_an_interrupt_leaves_no_traceback(runtime, capfd):
    def start(options, id):
        raise KeyboardInterrupt

    runtime("start", start)
    assert fast.main(["start", "c1"]) == 130
    assert capfd.readouterr().err == ""


def test_a_closed_pipe_ends_the_command_silently():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "pycontain", "--version"], stdout=writing, stderr=subprocess.PIPE,
        check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_full_disk_is_an_error():
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pycontain", "--version"], stdout=full, stderr=subprocess.PIPE,
            check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, b"pycontain: no space left on device\n")


def test_an_error_has_its_hint_on_a_line_of_its_own_on_a_terminal(runtime):
    controlling, terminal = os.openpty()
    command = [sys.executable, "-m", "pycontain", "stat", "c1"]
    done = subprocess.run(command, stdout=terminal, stderr=terminal, check=False)
    os.close(terminal)
    text = os.read(controlling, 4096)
    os.close(controlling)
    assert done.returncode == 1
    assert text == b"pycontain: stat is not a command\r\n  hint: did you mean state?\r\n"


def test_the_list_has_every_format(runtime, capfd):
    def list_containers(options):
        return [{"id": "c1", "pid": 7, "status": "running", "bundle": "/b" * 100, "owner": "root"}]

    runtime("list", list_containers)
    assert fast.main(["list", "--format", "json"]) == 0
    assert '"id":"c1"' in capfd.readouterr().out
    assert fast.main(["list", "-q"]) == 0
    assert capfd.readouterr().out == "c1\n"
    assert fast.main(["list"]) == 0
    heading, line = capfd.readouterr().out.splitlines()
    assert heading.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert line.split() == ["c1", "7", "running", "/b" * 100, "root"]


def test_events_are_lines_of_json(runtime, capfd):
    def events(options, id, stats, interval):
        assert (id, stats, interval) == ("c1", False, 0.25)
        yield {"type": "stats"}
        raise StateError("is stopped", at="container", value="c1")

    runtime("events", events)
    assert fast.main(["events", "--interval", "250ms", "c1"]) == 1
    shown = capfd.readouterr()
    assert shown.out == '{"type":"stats"}\n'
    assert shown.err == "pycontain: container = c1 is stopped\n"


def test_a_plan_is_shown_as_a_table_and_as_json(runtime, capfd, tmp_path):
    found = [{"side": "child", "name": "mount", "what": "/proc [bold]", "why": "processes"}]

    def steps(options, id, bundle, *, verb, isolation):
        assert (id, bundle, verb, isolation) == (tmp_path.name, str(tmp_path), "create", "")
        return found

    runtime("planning", steps)
    assert fast.main(["plan", str(tmp_path)]) == 0
    assert "/proc [bold]" in capfd.readouterr().out
    assert fast.main(["plan", "--format=json", str(tmp_path)]) == 0
    assert '"why": "processes"' in capfd.readouterr().out


@pytest.mark.parametrize("command", table.COMMANDS.values(), ids=lambda one: one.name)
def test_the_function_of_a_command_accepts_its_flags(command):
    keywords = set(fast.defaults(command.flags))
    keywords |= {argument.name for argument in command.arguments}
    function = named(command.calls)
    if command.request:
        record = named(command.request)
        assert keywords <= record.FIELDS.keys()
        assert {name: record.DEFAULTS[name] for name in keywords & record.DEFAULTS.keys()} == {
            key: value for key, value in fast.defaults(command.flags).items() if key in keywords
        } | {argument.name: () for argument in command.arguments if argument.rest}
        inspect.signature(function).bind(Options(), object())
    else:
        inspect.signature(function).bind(Options(), **dict.fromkeys(keywords))


def named(name):
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
