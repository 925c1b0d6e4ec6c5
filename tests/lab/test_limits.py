"""Limits that the runtime sets on unified cgroup v2 and that the kernel actually enforces."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.lab.containers import Container, Runtime, keyed, until

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cgroup2, pytest.mark.needs_busybox]

MIB = 1 << 20
EVENTS = "cat /sys/fs/cgroup/memory.events"
HOG = "dd if=/dev/zero of=/dev/null bs=64M count=1"
IDLE = "echo up; exec sleep 300"
SPIN = "echo up; while :; do :; done"


def memory(limit: int) -> dict[str, Any]:
    """A memory limit without swap."""
    return {"memory": {"limit": limit, "swap": limit}}


def share_of_cpu(container: Container, duration: float) -> float:
    """The average number of CPUs that the container used over some seconds."""
    before, began = container.number("cpu.stat", "usage_usec"), time.monotonic()
    time.sleep(duration)
    used = container.number("cpu.stat", "usage_usec") - before
    return used / 1e6 / (time.monotonic() - began)


def assert_held_to(quota: int, container: Container, duration: float) -> None:
    """
    The container uses `quota` microseconds in each period of 100 ms, within 10 %.

    For the lower bound only throttled periods count, in which it has used up the quota: on a busy
    host even a spinner may not get it in every period.
    """
    names = ("usage_usec", "nr_throttled")
    before = [container.number("cpu.stat", name) for name in names]
    share = share_of_cpu(container, duration)
    after = [container.number("cpu.stat", name) for name in names]
    used, throttled = (new - old for new, old in zip(after, before, strict=True))
    assert throttled > 5
    assert used >= 0.9 * quota * throttled
    assert share <= 1.1 * quota / 100_000


@pytest.mark.property("linux.resources.memory.limit")
def test_memory_max_kills_the_hog_but_not_its_parent(runtime: Runtime) -> None:
    done = runtime.run(runtime.bundle(f"{HOG}; echo status $?; {EVENTS}", memory(24 * MIB)))
    assert "status 137" in done.stdout, done.stderr
    events = keyed(done.stdout.partition("137")[2])
    assert events["oom_kill"] == 1
    assert done.returncode == 0


def test_without_memory_max_the_hog_survives(runtime: Runtime) -> None:
    done = runtime.run(runtime.bundle(f"{HOG}; echo status $?; {EVENTS}"))
    assert "status 0" in done.stdout, done.stderr


def test_a_container_killed_for_memory_ends_with_status_137(runtime: Runtime) -> None:
    done = runtime.run(runtime.bundle(f"exec {HOG}", memory(24 * MIB)))
    assert done.returncode == 137


@pytest.mark.property("linux.resources.pids*")
def test_pids_max_stops_a_fork_bomb(runtime: Runtime) -> None:
    bomb = "bomb() { bomb | bomb & sleep 5; }; bomb 2>/dev/null; echo up; exec sleep 300"
    container = runtime.start(runtime.bundle(bomb, {"pids": {"limit": 20}}))
    until(lambda: container.number("pids.events", "max") > 0, "a refused fork")
    assert int(container.read("pids.current")) <= 20
    assert int(container.read("pids.peak" if _has(container, "pids.peak") else "pids.max")) <= 20


def _has(container: Container, file: str) -> bool:
    return (container.cgroup() / file).exists()


@pytest.mark.property("linux.resources.cpu.quota", "linux.resources.cpu.period")
def test_cpu_max_holds_a_spinner_to_its_quota(runtime: Runtime) -> None:
    limits = {"cpu": {"quota": 20_000, "period": 100_000}}
    container = runtime.start(runtime.bundle(SPIN, limits))
    container.wait_for("up")
    assert container.read("cpu.max") == "20000 100000"
    assert_held_to(20_000, container, 5)


@pytest.mark.property("linux.resources.blockIO.throttleReadBpsDevice*")
def test_io_max_slows_a_reader_down(runtime: Runtime, rootfs: Path) -> None:
    device = os.stat(rootfs).st_dev
    (rootfs / "data").write_bytes(os.urandom(4 * MIB))
    limit = {"major": os.major(device), "minor": os.minor(device), "rate": MIB}
    read = "dd if=/data of=/dev/null bs=256k iflag=direct; cat /sys/fs/cgroup/io.max"
    began = time.monotonic()
    done = runtime.run(runtime.bundle(read, {"blockIO": {"throttleReadBpsDevice": [limit]}}))
    took = time.monotonic() - began
    assert f"{os.major(device)}:{os.minor(device)} rbps={MIB}" in done.stdout, done.stderr
    assert took > 3, "4 MiB at 1 MiB/s"


@pytest.mark.property("linux.resources.cpu.cpus")
def test_cpuset_keeps_the_container_on_its_cpus(runtime: Runtime) -> None:
    script = "grep Cpus_allowed_list /proc/self/status; nproc; echo up; exec sleep 300"
    container = runtime.start(runtime.bundle(script, {"cpu": {"cpus": "0"}}))
    container.wait_for("up")
    assert container.output.split() == ["Cpus_allowed_list:", "0", "1", "up"]
    assert container.read("cpuset.cpus.effective") == "0"


@pytest.mark.property("linux.resources.unified", "life-cycle 33")
def test_unified_writes_a_file_by_its_name(runtime: Runtime) -> None:
    limits = {"unified": {"memory.high": str(32 * MIB), "pids.max": "77"}}
    container = runtime.start(runtime.bundle(IDLE, limits))
    assert container.read("memory.high") == str(32 * MIB)
    assert container.read("pids.max") == "77"


def test_pause_stops_every_process_and_resume_continues_them(runtime: Runtime) -> None:
    container = runtime.start(runtime.bundle(SPIN))
    container.wait_for("up")
    runtime("pause", container.name)
    assert container.state()["status"] == "paused"
    assert container.number("cgroup.events", "frozen") == 1
    assert share_of_cpu(container, 1) < 0.01
    runtime("resume", container.name)
    assert container.state()["status"] == "running"
    assert share_of_cpu(container, 2) > 0.01


def test_kill_all_ends_every_process(runtime: Runtime) -> None:
    container = runtime.start(runtime.bundle("sleep 300 & sleep 300 & echo up; exec sleep 300"))
    container.wait_for("up")
    cgroup = container.cgroup()
    assert len((cgroup / "cgroup.procs").read_text().split()) == 3
    runtime("kill", "--all", container.name, "KILL")
    until(lambda: not _processes(cgroup), "an empty cgroup")


def test_a_paused_container_can_be_deleted_by_force(runtime: Runtime) -> None:
    container = runtime.start(runtime.bundle(SPIN))
    container.wait_for("up")
    cgroup = container.cgroup()
    runtime("pause", container.name)
    runtime("delete", "--force", container.name)
    assert not cgroup.exists()


def _processes(cgroup: Path) -> str:
    return (cgroup / "cgroup.procs").read_text() if cgroup.exists() else ""


def test_a_container_manages_its_own_cgroup_namespace(runtime: Runtime) -> None:
    script = (
        "cat /proc/self/cgroup; cd /sys/fs/cgroup; mkdir -p inner/leaf; "
        "echo $$ > inner/leaf/cgroup.procs; echo +pids > cgroup.subtree_control; "
        "echo +pids > inner/cgroup.subtree_control; echo 5 > inner/leaf/pids.max; "
        "cat inner/leaf/pids.max; cat /proc/self/cgroup"
    )
    done = runtime.run(runtime.bundle(script))
    assert done.stdout.split() == ["0::/", "5", "0::/inner/leaf"], done.stderr


@pytest.mark.needs_userns
def test_the_cgroup_is_delegated_to_the_containers_user_namespace(runtime: Runtime) -> None:
    def mapped(config: dict[str, Any]) -> None:
        linux = config["linux"]
        linux["namespaces"].append({"type": "user"})
        for kind in ("uidMappings", "gidMappings"):
            linux[kind] = [{"containerID": 0, "hostID": 100_000, "size": 65_536}]

    script = "mkdir /sys/fs/cgroup/inner && echo $$ > /sys/fs/cgroup/inner/cgroup.procs && " + IDLE
    container = runtime.start(runtime.bundle(script, change=mapped))
    container.wait_for("up")
    cgroup = container.cgroup().parent
    assert container.cgroup().name == "inner"
    assert cgroup.stat().st_uid == 100_000
    assert (cgroup / "cgroup.procs").stat().st_uid == 100_000
    assert (cgroup / "pids.max").stat().st_uid == 0, "a limit stays the host's"


def test_update_changes_a_running_container(runtime: Runtime) -> None:
    container = runtime.start(runtime.bundle(IDLE, {"pids": {"limit": 10}}))
    update = ["update", "--memory", str(64 * MIB), "--pids-limit", "30", "--cpu-quota", "30000"]
    runtime(*update, "--cpu-period", "100000", container.name)
    assert container.read("memory.max") == str(64 * MIB)
    assert container.read("pids.max") == "30"
    assert container.read("cpu.max") == "30000 100000"


def test_update_reads_resources_from_its_input(runtime: Runtime) -> None:
    container = runtime.start(runtime.bundle(IDLE))
    wanted = {"memory": {"limit": 96 * MIB}, "pids": {"limit": 40}}
    runtime("update", "--resources", "-", container.name, text=json.dumps(wanted))
    assert container.read("memory.max") == str(96 * MIB)
    assert container.read("pids.max") == "40"


def test_update_limits_a_running_process(runtime: Runtime) -> None:
    container = runtime.start(runtime.bundle(SPIN))
    container.wait_for("up")
    runtime("update", "--cpu-period", "100000", "--cpu-quota", "10000", container.name)
    assert_held_to(10_000, container, 5)


def test_exec_joins_the_containers_cgroup(runtime: Runtime) -> None:
    container = runtime.start(runtime.bundle(IDLE, {"pids": {"limit": 12}}))
    done = runtime("exec", container.name, "cat", "/sys/fs/cgroup/pids.max", "/proc/self/cgroup")
    assert done.stdout.split() == ["12", "0::/"]


def test_no_controller_is_enabled_where_there_are_processes(runtime: Runtime) -> None:
    top = Path("/sys/fs/cgroup/lab-occupied")
    top.mkdir()
    with subprocess.Popen(["sleep", "300"]) as occupant:
        (top / "cgroup.procs").write_text(str(occupant.pid))

        def inside(config: dict[str, Any]) -> None:
            name = config["linux"]["cgroupsPath"].rpartition("/")[2]
            config["linux"]["cgroupsPath"] = f"/{top.name}/{name}"

        try:
            container = runtime.start(runtime.bundle(IDLE, None, inside))
            assert container.read("cgroup.type") == "domain"
            assert (top / "cgroup.subtree_control").read_text().split() == []
            done = runtime.run(runtime.bundle("true", {"pids": {"limit": 9}}, inside))
            assert "linux.resources.pids.limit = 9" in done.stderr
            assert f"move the processes of {top}" in done.stderr
            runtime("delete", "--force", container.name)
        finally:
            occupant.kill()
    until(lambda: not (top / "cgroup.procs").read_text(), "an empty cgroup")
    top.rmdir()


def test_delete_leaves_no_cgroup_behind(runtime: Runtime) -> None:
    container = runtime.start(runtime.bundle(IDLE, memory(32 * MIB)))
    cgroup = container.cgroup()
    runtime("kill", container.name, "KILL")
    until(lambda: container.state()["status"] == "stopped", "a stopped container")
    runtime("delete", container.name)
    assert not cgroup.exists()


def test_events_report_the_values_of_the_cgroup(runtime: Runtime) -> None:
    limits = {**memory(32 * MIB), "pids": {"limit": 10}}
    container = runtime.start(runtime.bundle(IDLE, limits))
    stats = json.loads(runtime("events", "--stats", container.name).stdout)
    assert stats["type"] == "stats"
    assert stats["id"] == container.name
    assert stats["data"]["pids"] == {"current": 1, "limit": 10}
    assert stats["data"]["memory"]["usage"]["limit"] == 32 * MIB
    assert stats["data"]["cpu"]["usage"]["total"] > 0
