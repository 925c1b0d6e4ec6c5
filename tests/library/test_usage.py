"""What a result says beside the output: why the program ended, and what it used."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys

import pytest

import pycontain
from tests.bundles import Bundles

pytestmark = pytest.mark.needs_root
BUSY = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"


def test_the_cpu_time_is_that_of_all_processes(bundle: Bundles, options) -> None:
    result = pycontain.run(bundle(f"({BUSY}) & ({BUSY}); wait").path, options=options)
    assert result.cpu_time is not None
    assert 0.01 < result.cpu_time < 100
    idle = pycontain.run(bundle("sleep 0.3").path, options=options)
    assert idle.cpu_time is not None
    assert idle.cpu_time < result.cpu_time
    assert idle.wall > 0.3


def test_a_container_without_a_cgroup_reports_its_cpu_time(bundle: Bundles, tmp_path) -> None:
    options = pycontain.Options(root=str(tmp_path / "state"), cgroup_manager="disabled")
    result = pycontain.run(bundle(BUSY).path, options=options)
    assert result.cpu_time is not None
    assert result.cpu_time > 0.005
    assert result.memory_peak is None


def test_exec_reports_the_cpu_time_of_its_own_program(bundle: Bundles, options) -> None:
    with pycontain.Container(bundle().path, ["sleep", "100"], options=options) as container:
        container.create()
        container.start()
        busy = container.exec(BUSY, shell=True)
        idle = container.exec(["true"])
    assert busy.cpu_time is not None
    assert idle.cpu_time is not None
    assert busy.cpu_time > idle.cpu_time
    assert busy.memory_peak is None


@pytest.mark.needs_cgroup2
def test_the_memory_peak_is_that_of_the_cgroup(bundle: Bundles, options) -> None:
    result = pycontain.run(
        bundle().path, ["dd", "if=/dev/zero", "of=/dev/null", "bs=32M", "count=1"], options=options
    )
    assert result.memory_peak is not None
    assert 32 << 20 < result.memory_peak < 256 << 20


@pytest.mark.needs_cgroup2
def test_running_out_of_memory_is_the_reason_even_if_a_child_was_killed(
    bundle: Bundles, options
) -> None:
    made = bundle("", {"linux.resources": {"memory": {"limit": 16 << 20, "swap": 16 << 20}}})
    hog = "dd if=/dev/zero of=/dev/null bs=64M count=1"
    for command in (["sh", "-c", f"exec {hog}"], ["sh", "-c", f"{hog}; exit $?"]):
        result = pycontain.run(made.path, command, options=options)
        assert (result.reason, result.status) == ("memory", 137)


def test_a_signal_is_a_reason(bundle: Bundles, options) -> None:
    with pycontain.Container(bundle().path, ["sleep", "100"], options=options) as container:
        container.create()
        container.start()
        result = container.exec(["sh", "-c", "kill -TERM $$"])
    assert (result.reason, result.status, result.signal) == ("signal", 143, signal.SIGTERM)


def test_runs_are_logged(bundle: Bundles, options, caplog) -> None:
    with caplog.at_level(logging.INFO, "pycontain"):
        pycontain.run(bundle("exit 3").path, id="logged", options=options)
    (record,) = caplog.records
    assert record.name == "pycontain"
    assert record.getMessage().startswith("logged ended: exit, status 3, 0.")


REAPS = {
    "ignores SIGCHLD": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "waits for all": "signal.signal(signal.SIGCHLD, lambda *_: os.waitpid(-1, os.WNOHANG))",
}
KEPT = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (6, 15)


@pytest.mark.parametrize("reaps", REAPS)
def test_a_program_that_reaps_all_its_children_gets_the_right_status(
    bundle: Bundles, options, left, reaps
) -> None:
    """From Linux 6.15 on; before, an error says why it is lost."""
    program = f"""
import os, pycontain, signal
{REAPS[reaps]}
try:
    done = pycontain.run(
        {str(bundle().path)!r}, "exit 7", shell=True, options=pycontain.Options(root={options.root!r})
    )
    print(done.status, done.signal)
except pycontain.StateError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ("7 0" if KEPT else "do not ignore SIGCHLD") in done.stdout, done
    assert left() == []
