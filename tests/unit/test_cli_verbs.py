from __future__ import annotations

import io
import json
import os
import sys
from types import ModuleType

import pytest

from pycontain.cli import fast


@pytest.fixture
def updated(monkeypatch):
    """The resources that reach the runtime."""
    found = []

    def update(options, id, resources, rdt=None):
        found.append({**resources, **({"rdt": rdt} if rdt else {})})

    stub = ModuleType("pycontain.runtime.update")
    stub.update = update
    monkeypatch.setitem(sys.modules, stub.__name__, stub)
    return found


def test_the_flags_of_update_become_resources(updated):
    line = (
        "update --memory 512m --memory-reservation 256m --memory-swap -1 --cpu-period 100000"
        " --cpu-quota 50000 --cpu-share 512 --cpu-burst 1 --cpu-idle 1 --cpu-rt-period 2"
        " --cpu-rt-runtime 3 --cpuset-cpus 0-1 --cpuset-mems 0 --pids-limit 0 --blkio-weight 500"
        " --kernel-memory 1m c1"
    )
    assert fast.main(line.split()) == 0
    assert updated == [
        {
            "memory": {"limit": 512 << 20, "reservation": 256 << 20, "swap": -1},
            "cpu": {
                "period": 100000, "quota": 50000, "shares": 512, "burst": 1, "idle": 1,
                "realtimePeriod": 2, "realtimeRuntime": 3, "cpus": "0-1", "mems": "0",
            },
            "pids": {"limit": 0},
            "blockIO": {"weight": 500},
        }
    ]  # fmt: skip


def test_the_flags_of_update_become_schemata(updated):
    assert (
        fast.main(["update", "--l3-cache-schema", "L3:0=f", "--mem-bw-schema", "MB:0=20", "c1"])
        == 0
    )
    assert updated == [{"rdt": {"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20"}}]


def test_update_without_flags_changes_nothing(updated):
    assert fast.main(["update", "c1"]) == 0
    assert updated == [{}]


def test_resources_come_from_a_file_instead_of_the_flags(updated, tmp_path):
    file = tmp_path / "resources.json"
    file.write_text('{"pids": {"limit": 5}}')
    assert fast.main(["update", "-r", str(file), "--memory", "1g", "c1"]) == 0
    assert updated == [{"pids": {"limit": 5}}]


def test_resources_come_from_standard_input(updated, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"pids": {"limit": 5}}'))
    assert fast.main(["update", "--resources=-", "c1"]) == 0
    assert updated == [{"pids": {"limit": 5}}]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"{", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b"\xff", "is not UTF-8 text"),
        (None, "does not exist"),
    ],
)
def test_resources_that_cannot_be_read_are_refused(updated, tmp_path, capfd, data, why):
    file = tmp_path / "resources.json"
    if data is not None:
        file.write_bytes(data)
    assert fast.main(["update", "-r", str(file), "c1"]) == 1
    assert f"{file} {why}" in capfd.readouterr().err
    assert updated == []


def test_spec_writes_a_sample_and_overwrites_nothing(tmp_path, capfd):
    assert fast.main(["spec", "--bundle", str(tmp_path)]) == 0
    written = (tmp_path / "config.json").read_text()
    assert json.loads(written)["root"]["path"] == "rootfs"
    assert fast.main(["spec", "-b", str(tmp_path)]) == 1
    assert "config.json exists already; remove it first" in capfd.readouterr().err
    assert (tmp_path / "config.json").read_text() == written


def test_features_are_json(capfd):
    assert fast.main(["features"]) == 0
    assert json.loads(capfd.readouterr().out)["ociVersionMin"] == "1.0.0"


@pytest.fixture
def ps(monkeypatch):
    """A container whose only process is this one."""

    def ps(options, id):
        return [os.getpid()]

    stub = ModuleType("pycontain.runtime.ps")
    stub.ps = ps
    monkeypatch.setitem(sys.modules, stub.__name__, stub)


def test_ps_prints_ids_as_json(ps, capfd):
    assert fast.main(["ps", "-f", "json", "c1"]) == 0
    assert capfd.readouterr().out == f"[{os.getpid()}]\n"


def test_ps_prints_the_lines_of_the_containers_processes(ps, capfd):
    assert fast.main(["ps", "c1"]) == 0
    heading, line = capfd.readouterr().out.splitlines()
    assert line.split()[heading.split().index("PID")] == str(os.getpid())


def test_ps_needs_the_pid_column(ps, capfd):
    assert fast.main(["ps", "c1", "-o", "args"]) == 1
    assert "leave out the PID column; add -o pid" in capfd.readouterr().err


def test_an_error_of_ps_is_passed_on(ps, capfd):
    assert fast.main(["ps", "c1", "--nonsense"]) == 1
    assert capfd.readouterr().err.startswith("pycontain: ps --nonsense ")


def test_a_missing_ps_is_named(ps, capfd, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert fast.main(["ps", "c1"]) == 1
    assert "ps is not installed" in capfd.readouterr().err
