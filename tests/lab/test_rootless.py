"""Containers of an ordinary user: cgroups of its own systemd, or delegated ones."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.containers import Runtime, until
from tests.lab.users import User, UserRuntime

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_cgroup2,
    pytest.mark.needs_systemd,
    pytest.mark.needs_busybox,
    pytest.mark.needs_userns,
]

IDLE = "echo up; exec sleep 300"
MIB = 1 << 20


@pytest.fixture(scope="module")
def user() -> User:
    return User()


@pytest.fixture
def make(user: User, rootfs: Path) -> Iterator[Callable[..., Runtime]]:
    """Makes the user's runtime with these options; its containers are removed afterwards."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        made: list[UserRuntime] = []

        def new(*options: str, scope: bool = False) -> Runtime:
            folder = Path(name, str(len(made)))
            folder.mkdir()
            made.append(UserRuntime(folder, rootfs, user, options, scope=scope))
            return made[-1]

        yield new
        for runtime in made:
            runtime.close()


def rootless(config: dict[str, Any]) -> None:
    """A user namespace is added by the runtime; the cgroup is named by default."""
    del config["linux"]["cgroupsPath"]


def unit_of(user: User, name: str, *properties: str) -> dict[str, str]:
    wanted = ",".join(properties)
    text = user.output("systemctl", "--user", "show", f"pycontain-{name}.scope", "-p", wanted)
    return dict(line.split("=", 1) for line in text.splitlines())


def test_the_users_systemd_makes_a_scope_with_the_limits(user: User, make: Any) -> None:
    runtime = make("--systemd-cgroup")
    limits = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 20}}
    container = runtime.start(runtime.bundle(IDLE, limits, rootless))
    found = unit_of(user, container.name, "ActiveState", "MemoryMax", "TasksMax")
    assert found == {"ActiveState": "active", "MemoryMax": str(64 * MIB), "TasksMax": "20"}
    cgroup = container.cgroup()
    assert f"/user@{user.uid}.service/user.slice/pycontain-{container.name}.scope" in str(cgroup)
    assert container.read("memory.max") == str(64 * MIB)
    assert cgroup.stat().st_uid == user.uid
    inside = runtime("exec", container.name, "cat", "/proc/self/cgroup").stdout
    assert inside.strip() == "0::/"
    runtime("update", "--memory", str(96 * MIB), container.name)
    assert container.read("memory.max") == str(96 * MIB)
    runtime("pause", container.name)
    assert container.state()["status"] == "paused"
    runtime("resume", container.name)
    runtime("delete", "--force", container.name)
    until(lambda: not cgroup.exists(), "no cgroup")


def test_a_controller_that_is_not_delegated_is_refused_by_name(make: Any) -> None:
    runtime = make("--systemd-cgroup")
    limits = {"cpu": {"cpus": "0"}}
    done = runtime.run(runtime.bundle("echo runs", limits, rootless))
    assert done.returncode == 1
    assert "linux.resources.cpu.cpus = 0 cannot be applied" in done.stderr
    assert "user@.service" in done.stderr
    runtime = make("--systemd-cgroup", "--cgroup-missing", "warn")
    done = runtime.run(runtime.bundle("echo runs", limits, rootless))
    assert (done.returncode, done.stdout) == (0, "runs\n")
    assert "runs without this limit" in done.stderr


def test_a_delegated_cgroup_needs_no_systemd(make: Any) -> None:
    runtime = make(scope=True)
    script = "cat /sys/fs/cgroup/pids.max"
    done = runtime.run(runtime.bundle(script, {"pids": {"limit": 17}}, rootless))
    assert (done.stdout, done.returncode) == ("17\n", 0), done.stderr


def test_without_either_a_limit_is_refused_and_the_rest_works(make: Any) -> None:
    runtime = make()
    assert runtime.run(runtime.bundle("echo runs", None, rootless)).stdout == "runs\n"
    done = runtime.run(runtime.bundle("true", {"pids": {"limit": 17}}, rootless))
    assert "linux.resources.pids.limit = 17 cannot be applied" in done.stderr
    assert "--systemd-cgroup" in done.stderr


def test_subordinate_ids_are_mapped(user: User, make: Any) -> None:
    runtime = make("--systemd-cgroup")
    done = runtime.run(runtime.bundle("cat /proc/self/uid_map", None, rootless))
    first, second = (line.split() for line in done.stdout.splitlines())
    assert first == ["0", str(user.uid), "1"]
    assert (second[0], second[2]) == ("1", "65536")
    assert subprocess.run(["test", "-e", "/etc/subuid"], check=False).returncode == 0
