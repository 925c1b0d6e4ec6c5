"""What is counted and limited where cgroup v2 has every controller: events, update, controllers."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.lab.containers import Runtime

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cgroup2, pytest.mark.needs_busybox]

IDLE = "echo up; exec sleep 300"


def test_a_containers_cgroup_has_every_controller(runtime: Runtime) -> None:
    container = runtime.start(runtime.bundle(IDLE))
    offered = Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
    assert container.read("cgroup.controllers").split() == offered


def test_a_pids_limit_of_0_is_none_before_version_1_3_0_and_one_process_since(
    runtime: Runtime,
) -> None:
    """Podman 4 writes 0 with 1.0.2; since 1.3.0 it is a limit, and the first process exists."""
    for version, held in (("1.0.2", "max"), ("1.3.0", "1")):
        made = runtime.bundle(IDLE, {"pids": {"limit": 0}})
        path = made.bundle / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "ociVersion": version}))
        assert runtime.start(made).read("pids.max") == held


def test_a_refused_update_leaves_every_limit_as_it_was(runtime: Runtime) -> None:
    limits = {
        "memory": {"limit": 64 << 20}, "pids": {"limit": 50},
        "cpu": {"quota": 50_000, "period": 100_000, "burst": 20_000},
    }  # fmt: skip
    container = runtime.start(runtime.bundle(IDLE, limits))
    files = ("memory.max", "pids.max", "cpu.max", "cpu.max.burst", "cpu.weight", "io.max")
    before = {file: container.read(file) for file in files}
    wanted = {
        "memory": {"limit": 32 << 20}, "pids": {"limit": 5},
        "cpu": {"quota": 10_000, "burst": 1_000, "shares": 2048},
        "unified": {"memory.high": "many"},
    }  # fmt: skip
    done = runtime(
        "update", "--resources", "-", container.name, text=json.dumps(wanted), check=False
    )
    assert done.returncode == 1
    assert "memory.high" in done.stderr
    assert {file: container.read(file) for file in files} == before


def test_events_report_the_out_of_memory_killer_at_once(runtime: Runtime) -> None:
    limit = {"memory": {"limit": 24 << 20, "swap": 24 << 20}}
    container = runtime.start(runtime.bundle(IDLE, limit))
    command = [*runtime.command, "events", "--interval", "1h", container.name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as events:
        assert events.stdout is not None
        assert json.loads(events.stdout.readline())["type"] == "stats"
        hog = ["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]
        assert runtime("exec", container.name, *hog, check=False).returncode == 137
        assert json.loads(events.stdout.readline()) == {"type": "oom", "id": container.name}
        runtime("kill", container.name, "KILL")
        assert events.wait(60) == 0
