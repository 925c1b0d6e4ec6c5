"""Tables for people: in a terminal of any width nothing is cut off, and nothing is wider than it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pycontain.cli import render
from pycontain.runtime.doctor import Finding

CONTAINERS = [
    {
        "id": "a-container-with-a-long-name", "pid": 4194303, "status": "running",
        "bundle": "/var/lib/somewhere/quite/deep/in/the/tree/bundle",
        "created": "2026-01-01T00:00:00.000000Z", "owner": "root",
    }
]  # fmt: skip
STEPS = [{"side": "parent", "name": "no new privileges", "what": "w " * 70, "why": "linux.x[0]"}]
FINDINGS = [
    Finding(
        name="memory controller", status="missing", found="in cgroup v1, at /sys/fs/cgroup/memory",
        prevents="its limits", remedy="boot with cgroup_no_v1=all",
    )
]  # fmt: skip
TIMES = [("parent", "no new privileges", 123456)]
SHOWN = {
    "list": lambda: render.containers(CONTAINERS),
    "plan": lambda: render.plan("/bundle", STEPS),
    "doctor": lambda: render.findings(FINDINGS, ready=True),
    "timings": lambda: render.timings(TIMES),
}
VALUES = {
    "list": [str(value) for value in CONTAINERS[0].values()],
    "plan": [str(value) for value in STEPS[0].values()],
    "doctor": [str(value) for value in FINDINGS[0].fields().values()],
    "timings": [str(value) for value in TIMES[0]],
}


@pytest.fixture
def screen(monkeypatch):
    """What a terminal of a width shows."""

    def show(what, width):
        file = io.StringIO()
        console = Console(file=file, width=width, highlight=False)
        monkeypatch.setattr(render, "_console", lambda stderr=False: console)
        SHOWN[what]()
        return file.getvalue()

    return show


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 132, 4096])
@pytest.mark.parametrize("what", SHOWN)
def test_every_value_of_a_table_is_shown_whole_and_fits(screen, what, width):
    shown = screen(what, width)
    assert max(map(len, shown.splitlines())) <= width
    letters = sorted("".join(shown.split()))
    for value in VALUES[what]:
        for letter in set(value) - {" "}:
            assert letters.count(letter) >= value.count(letter)


@pytest.mark.parametrize("what", SHOWN)
def test_a_wide_terminal_has_one_line_for_each_row(screen, what):
    rows = screen(what, 400).splitlines()
    assert all(any(value.strip() in row for row in rows) for value in VALUES[what])


def test_a_narrow_terminal_has_a_line_for_each_value(screen):
    lines = screen("list", 50).splitlines()
    assert lines[0].split() == ["ID", "a-container-with-a-long-name"]
    assert lines[2].split() == ["STATUS", "running"]


def test_an_id_is_never_folded_in_a_table(screen):
    rows = screen("list", 100).splitlines()
    assert rows[0].split()[0] == "ID"
    assert rows[1].startswith(CONTAINERS[0]["id"])


def test_a_list_without_containers_is_a_heading_alone(screen, monkeypatch):
    monkeypatch.setitem(SHOWN, "list", lambda: render.containers([]))
    assert screen("list", 80).split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
