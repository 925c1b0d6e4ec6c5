"""The systemd driver: a container runs in a systemd scope unit."""

import subprocess
from typing import Any

import pytest

from tests.lab.containers import Container, Runtime, until

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_cgroup2,
    pytest.mark.needs_systemd,
    pytest.mark.needs_busybox,
]

IDLE = "echo up; exec sleep 300"
MIB = 1 << 20


def scoped(config: dict[str, Any]) -> None:
    """Name the scope in the form that the systemd driver reads: slice, prefix, name."""
    name = config["linux"]["cgroupsPath"].rpartition("/")[2]
    config["linux"]["cgroupsPath"] = f"system.slice:lab:{name}"


def show(unit: str, *properties: str) -> dict[str, str]:
    """Properties of a unit."""
    options = [f"--property={name}" for name in properties]
    done = subprocess.run(
        ["systemctl", "show", unit, *options],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def unit(container: Container) -> str:
    """The name of the container's scope."""
    return f"lab-{container.name}.scope"


def test_the_container_is_a_scope_with_its_limits_as_properties(systemd_runtime: Runtime) -> None:
    limits = {
        "memory": {"limit": 64 * MIB},
        "pids": {"limit": 20},
        "cpu": {"quota": 50_000, "period": 100_000},
    }
    container = systemd_runtime.start(systemd_runtime.bundle(IDLE, limits, scoped))
    found = show(unit(container), "ActiveState", "MemoryMax", "TasksMax", "CPUQuotaPerSecUSec")
    assert found == {
        "ActiveState": "active",
        "MemoryMax": str(64 * MIB),
        "TasksMax": "20",
        "CPUQuotaPerSecUSec": "500ms",
    }
    assert unit(container) in str(container.cgroup())
    assert container.read("memory.max") == str(64 * MIB)


def test_the_limit_survives_a_reload_of_systemd(systemd_runtime: Runtime) -> None:
    container = systemd_runtime.start(systemd_runtime.bundle(IDLE, {"pids": {"limit": 21}}, scoped))
    subprocess.run(["systemctl", "daemon-reload"], check=True, timeout=60)
    assert container.read("pids.max") == "21"


def test_update_goes_through_systemd(systemd_runtime: Runtime) -> None:
    container = systemd_runtime.start(systemd_runtime.bundle(IDLE, None, scoped))
    systemd_runtime("update", "--memory", str(96 * MIB), container.name)
    assert show(unit(container), "MemoryMax")["MemoryMax"] == str(96 * MIB)
    assert container.read("memory.max") == str(96 * MIB)


def test_delete_leaves_no_scope_behind(systemd_runtime: Runtime) -> None:
    container = systemd_runtime.start(systemd_runtime.bundle(IDLE, None, scoped))
    cgroup = container.cgroup()
    systemd_runtime("delete", "--force", container.name)
    until(lambda: not cgroup.exists(), "no cgroup")
    until(lambda: show(unit(container), "ActiveState")["ActiveState"] != "active", "no scope")
