"""Docker's engine with the runtime as its default, and a swarm of one node."""

import json

import pytest

from tests.compat.engines import Docker
from tests.lab.containers import until

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_cgroup2,
    pytest.mark.needs_systemd,
    pytest.mark.needs_docker,
]

TRAP = "trap 'exit 3' TERM; echo up; while :; do sleep 0.2; done"
RUN = ("run", "--network", "none")


def test_a_life_with_exec_limits_stats_and_stop(docker: Docker) -> None:
    assert docker(*RUN, "--rm", "lab", "sh", "-c", "echo hello") == "hello"
    docker(*RUN, "--rm", "lab", "sh", "-c", "exit 7", status=7)
    docker(*RUN, "--rm", "lab", "/bin/none", status=127)
    limits = ("--memory", "64m", "--pids-limit", "40")
    id = docker(*RUN, "--detach", *limits, "lab", "sh", "-c", TRAP)
    until(lambda: "up" in docker("logs", id), "the log")
    script = "cd /sys/fs/cgroup; cat memory.max pids.max"
    assert docker("exec", id, "sh", "-c", script).split() == ["67108864", "40"]
    docker("exec", id, "sh", "-c", "exit 5", status=5)
    assert docker("stats", "--no-stream", "--format", "{{.PIDs}}", id).isdigit()
    docker("update", "--memory", "96m", "--memory-swap", "96m", id)
    assert docker("exec", id, "cat", "/sys/fs/cgroup/memory.max") == str(96 << 20)
    docker("pause", id)
    docker("unpause", id)
    docker("stop", "--time", "30", id)
    assert json.loads(docker("inspect", id))[0]["State"]["ExitCode"] == 3
    docker("rm", id)


def test_a_restart_policy(docker: Docker) -> None:
    id = docker(*RUN, "--detach", "--restart", "on-failure:2", "lab", "sh", "-c", "exit 1")
    until(lambda: _count(docker, id) == 2, "restarted twice")
    docker("rm", "--force", id)


def _count(docker: Docker, id: str) -> int:
    return int(json.loads(docker("inspect", id))[0]["RestartCount"])


def test_two_containers_share_a_network(docker: Docker) -> None:
    one = docker(*RUN, "--detach", "lab", "sh", "-c", TRAP)
    link = docker("exec", one, "ls", "-l", "/proc/self/ns/net").rpartition("->")[2]
    shared = ("run", "--rm", "--network", f"container:{one}", "lab")
    assert docker(*shared, "ls", "-l", "/proc/self/ns/net").rpartition("->")[2] == link
    docker("rm", "--force", one)


def test_a_swarm_service_is_scaled_updated_and_replaces_a_lost_task(docker: Docker) -> None:
    docker("swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1")
    try:
        docker("service", "create", "--name", "s", "--replicas", "2", "--network", "host",
               "--endpoint-mode", "dnsrr", "--no-resolve-image", "--detach", "--stop-grace-period",
               "1s", "lab", "sh", "-c", TRAP)  # fmt: skip
        until(lambda: len(_tasks(docker)) == 2, "two tasks", 90)
        docker("service", "scale", "--detach", "s=3")
        until(lambda: len(_tasks(docker)) == 3, "three tasks", 90)
        lost = _tasks(docker)[0]
        docker("kill", lost)
        until(lambda: len(_tasks(docker)) == 3 and lost not in _tasks(docker), "another task", 90)
        before = set(_tasks(docker))
        docker("service", "update", "--detach", "--env-add", "A=b", "--no-resolve-image", "s")
        until(
            lambda: len(_tasks(docker)) == 3 and before.isdisjoint(_tasks(docker)), "updated", 150
        )
    finally:
        docker("swarm", "leave", "--force")


def _tasks(docker: Docker) -> list[str]:
    return docker("ps", "--quiet", "--filter", "name=s.").split()
