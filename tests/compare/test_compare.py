"""`pycontain compare`: the measurements, the table, the page in a real browser."""

from __future__ import annotations

import json
import os
import shutil
import sys

import pytest

from pycontain.compare import calls, commands, environments, page
from pycontain.compare.comparison import QUANTITIES, Column, Comparison, Figure, compare
from pycontain.compare.measure import run
from pycontain.errors import HostError, ProgramError, UsageError
from tests import browser

BUSYBOX = shutil.which("busybox") or "/bin/busybox"


def column(name, factor):
    figures = {quantity: Figure(median=1.5 * factor, spread=0.2) for quantity in QUANTITIES}
    sees = {"kernel": "Linux <5>", "pid": "1", "mounts": "2", "CPU": "a & b"}
    return Column(name=name, figures=figures, sees=sees)


@pytest.fixture
def made_up():
    absent = Column(name="emulated", figures={}, sees={}, missing="needs unicorn")
    columns = (column("native", 1), column("container", 3), column("vm", 1000), absent)
    return Comparison(program=("sum", "<file>"), runs=3, engine="software PVM", columns=columns)


# --- one run -----------------------------------------------------------------------------------


def test_a_run_reports_its_output_status_and_times():
    command = ["/bin/sh", "-c", "echo out; sleep 0.2; echo err >&2; exit 3"]
    result = run(command, command)
    assert (result.output, result.status) == (b"out\nerr\n", 3)
    assert 0 < result.first_output < result.seconds - 0.15
    assert result.memory >= result.program > 0


def test_the_memory_of_child_processes_counts():
    alone = run(["/bin/sh", "-c", "sleep 0.1; echo"], ["sh"])
    code = "import time; x = b'x' * (50 << 20); time.sleep(0.2)"
    more = run(["/bin/sh", "-c", f'{sys.executable} -c "{code}"; echo'], ["sh"])
    assert more.memory - alone.memory > 45 << 20
    assert more.program < 20 << 20


def test_a_program_that_cannot_be_executed_is_named():
    with pytest.raises(ProgramError, match="exec: /missing no such file or directory"):
        run(["/missing"], ["/missing"])


# --- the comparison ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real():
    """A comparison of two runs, in the environments of this host."""
    if not os.access(BUSYBOX, os.X_OK):
        pytest.skip("needs a static busybox")
    steps = []
    found = compare([BUSYBOX, "sha256sum", "/etc/passwd"], 2, lambda *step: steps.append(step))
    return found, steps


def test_each_environment_is_measured_or_says_why_not(real):
    found, _ = real
    assert [column.name for column in found.columns] == ["native", "container", "vm", "emulated"]
    for one in found.columns:
        assert bool(one.missing) != bool(one.figures)
        if one.figures:
            assert set(one.figures) == set(QUANTITIES)
            assert one.figures["exit"].median >= one.figures["first output"].median > 0


def test_runs_in_the_environments_are_interleaved_with_progress(real):
    found, steps = real
    present = [column.name for column in found.columns if not column.missing]
    assert [step[2].split(":")[0] for step in steps[: len(present)]] == present
    assert [step[0] for step in steps] == list(range(len(steps)))
    assert steps[-1][:2] == (2 * 4 * len(present),) * 2


def test_the_program_sees_what_its_environment_shows(real):
    found, _ = real
    sees = {column.name: column.sees for column in found.columns if not column.missing}
    assert sees["native"]["kernel"] == f"Linux {os.uname().release}"
    if "container" in sees:
        assert sees["container"]["pid"] == "1"
        assert sees["container"]["kernel"] == sees["native"]["kernel"]
    if "vm" in sees:
        assert sees["vm"]["kernel"] != sees["native"]["kernel"]
        assert sees["vm"]["mounts"] == "none"


def test_the_system_calls_of_the_host_are_counted_beside_what_each_environment_allows(real):
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    found = {column.name: column for column in real[0].columns if not column.missing}
    assert found["native"].calls["read"] > 0
    assert "execve" in found["native"].calls
    for name in found.keys() & {"vm", "emulated"}:
        one = found[name]
        assert 0 < len(one.calls) <= one.allowed < found["native"].allowed
        assert not one.calls.keys() & {"execve", "seccomp"}


def test_only_the_calls_of_a_monitor_in_its_jail_count():
    log = ["1 read(0) = 1", "2 open() = 3", "2 seccomp(SECCOMP_SET_MODE_FILTER) = 0",
           "1 wait4() = 0", "2 ioctl(3) = 0", "3 ioctl(4) = 0", "2 write(1) = 1"]  # fmt: skip
    assert calls.count(log, monitored=True) == {"ioctl": 2, "write": 1}
    assert calls.count(log[:1], monitored=True) == {}
    assert calls.count(log, monitored=False)["read"] == 1


def test_the_record_of_a_comparison_is_json(real):
    record = json.loads(json.dumps(real[0].record()))
    assert record["runs"] == 2
    assert record["units"]["exit"] == "ms"
    assert record["columns"][0]["figures"]["exit"]["median"] > 0


def test_a_program_that_behaves_differently_is_an_error():
    if all(wall.missing for wall in environments.walls("/nowhere")[1:]):
        pytest.skip("needs a second environment")
    with pytest.raises(ProgramError, match=r"busybox \(\w+\) behaves differently than natively"):
        compare([BUSYBOX, "sh", "-c", "echo $PPID"], 1)


@pytest.mark.parametrize("runs", [0, -1, 1001])
def test_an_invalid_number_of_runs_is_refused(runs):
    with pytest.raises(UsageError, match=f"--runs = {runs} is not 1 to 1000"):
        compare(runs=runs)


def test_the_error_without_busybox_names_the_remedy(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError, match="busybox is not installed; apt install busybox-static"):
        compare()


# --- what users see ----------------------------------------------------------------------------


def test_the_table_has_a_row_for_each_quantity_and_question(made_up):
    table = commands.rows(made_up)
    assert [len(row) for row in table] == [5] * (1 + len(QUANTITIES) + 4)
    assert table[2] == ["exit, ms", "1.50 ±10%", "4.50 ±10%", "1500.00 ±10%", "needs unicorn"]
    assert table[-4] == ["kernel", "Linux <5>", "Linux <5>", "Linux <5>", ""]


def test_the_page_of_a_comparison_stands_alone_and_is_escaped(made_up):
    pytest.importorskip("matplotlib")
    text = page.page(made_up)
    assert "<file>" not in text
    assert "Linux &lt;5&gt;" in text
    assert "software PVM" in text
    assert not any(mark in text for mark in ("<script", "<link", "<img", "@import", "src="))


@pytest.mark.needs_browser
def test_the_page_looks_right_in_a_browser(made_up, tmp_path):
    pytest.importorskip("matplotlib")
    page.write(made_up, str(tmp_path / "page.html"))
    seen, picture = browser.look(tmp_path / "page.html", tmp_path / "profile")
    assert seen["title"] == "One program in four environments"
    assert len(seen["charts"]) == 4
    assert all(
        width > 400 and height > 100 and paths > 10 for width, height, paths in seen["charts"]
    )
    assert "needs unicorn" in seen["tables"][0]
    assert "1500.00" in seen["tables"][0]
    assert (seen["overflows"], seen["fetched"], seen["messages"]) == (False, [], [])
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000
