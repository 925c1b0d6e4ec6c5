"""A limit that cgroup v2 cannot apply here: an error, or a warning and no limit."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import pycontain
from pycontain.cgroup.place import find_mount

pytestmark = pytest.mark.needs_root

LIMITS = {"linux.resources": {"memory": {"limit": 64 << 20}, "pids": {"limit": 50}}}
NAMED = ["linux.resources.memory.limit", "linux.resources.pids.limit"]
VARIABLE = "PYCONTAIN_CGROUP_MISSING"


@pytest.fixture(autouse=True)
def hybrid():
    """These tests need a limit that the host cannot apply."""
    available = Path(find_mount(), "cgroup.controllers").read_text().split()
    if {"memory", "pids"} & set(available):
        pytest.skip("needs a hybrid host, where cgroup v1 holds memory and pids")


def with_variable(value):
    return {"env": {**os.environ, VARIABLE: value}}


def check_warnings(err):
    for line, name in zip(err.splitlines(), NAMED, strict=True):
        assert line.startswith(f"pycontain: warning: {name} = ")
        assert line.endswith("; the container runs without this limit")


def test_a_limit_without_a_controller_is_an_error_that_names_the_flag(runtime, bundle):
    line = runtime.fails(bundle("echo up", LIMITS))
    assert NAMED[0] in line
    assert line.endswith("or run without it: --cgroup-missing warn\n")


@pytest.mark.parametrize("verb", ["run", "create"])
def test_cgroup_missing_warn_turns_each_limit_into_a_warning(runtime, bundle, verb):
    made = bundle("echo up", LIMITS)
    flags = ["--cgroup-missing", "warn", verb, "-b", made.path]
    container = runtime.new_id()
    done = runtime.ok(*flags, container, name=container)
    check_warnings(done.err)
    if verb == "create":
        runtime.ok("start", container)
    runtime.wait_for_text(container, "up")


def test_an_engine_that_passes_no_flag_sets_a_variable(runtime, bundle):
    done = runtime.run(bundle("echo up", LIMITS), **with_variable("warn"))
    assert (done.status, done.out) == (0, "up\n")
    check_warnings(done.err)


def test_the_flag_cgroup_missing_is_stronger_than_the_variable(runtime, bundle):
    made = bundle("echo up", LIMITS)
    words = ["--cgroup-missing", "error", "run", "-b", made.path, runtime.new_id()]
    assert NAMED[0] in runtime.refuses(*words, **with_variable("warn"))


def test_another_value_of_the_variable_is_refused_by_name(runtime):
    line = runtime.refuses("list", **with_variable("yes"))
    assert line == f"pycontain: {VARIABLE} = yes is not one of warn, error\n"


def test_warnings_of_limits_are_in_the_log_and_on_standard_error(runtime, bundle, tmp_path):
    made = bundle("echo up", LIMITS)
    log = tmp_path / "log"
    flags = ["--log", log, "--log-format", "json", "--cgroup-missing", "warn"]
    done = runtime.ok(*flags, "run", "-b", made.path, runtime.new_id())
    check_warnings(done.err)
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry["level"] for entry in entries] == ["warning", "warning"]
    assert [entry["msg"].split()[0] for entry in entries] == NAMED


def test_update_warns_of_limits_without_a_controller_and_applies_the_others(runtime, bundle):
    container = runtime.started(bundle("sleep 100"))
    words = ["update", "--memory", "32m", container]
    assert "--cgroup-missing warn" in runtime.refuses(*words)
    done = runtime.ok("--cgroup-missing", "warn", *words)
    assert done.err.startswith(f"pycontain: warning: {NAMED[0]} = {32 << 20} cannot be applied")


def test_the_library_warns_the_program_and_not_its_containers(bundle, tmp_path):
    warnings: list[str] = []
    options = pycontain.Options(
        root=str(tmp_path / "state"), cgroup_missing="warn", warn=warnings.append
    )
    made = bundle("echo up", LIMITS)
    with pytest.raises(pycontain.HostError, match=NAMED[0]):
        pycontain.run(made.path, options=options.replace(cgroup_missing="error"))
    result = pycontain.run(made.path, options=options)
    assert (result.stdout, result.stderr) == (b"up\n", b"")
    assert [text.split()[0] for text in warnings] == NAMED
    with pycontain.Container(bundle("sleep 100").path, options=options) as container:
        container.create()
        container.start()
        container.update({"memory": {"limit": 1 << 25}})
    assert [text.split()[0] for text in warnings] == [*NAMED, NAMED[0]]
