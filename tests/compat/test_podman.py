"""Podman of root: cgroupfs and systemd."""

from pathlib import Path

import pytest

from tests.compat.engines import IMAGE, Podman, output
from tests.lab.containers import until

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cgroup2, pytest.mark.needs_podman]

TRAP = "trap 'exit 3' TERM; echo up; while :; do sleep 0.2; done"


def test_podman_gets_output_status_and_the_reason_of_a_failed_start(podman: Podman) -> None:
    assert podman.run("echo hello; hostname", "--hostname", "box").split() == ["hello", "box"]
    podman.run("exit 7", status=7)
    podman("run", "--rm", "--network", "none", IMAGE, "/bin/nothing-here", status=127)
    podman("run", "--rm", "--network", "none", IMAGE, "/bin/plain", status=126)


def test_podman_gets_a_terminal(podman: Podman) -> None:
    assert podman.in_terminal("tty; stty size").splitlines()[0] == "/dev/pts/0"


def test_podman_can_exec_log_pause_measure_and_stop(podman: Podman) -> None:
    id = podman.start(TRAP, "--pids-limit", "50")
    until(lambda: "up" in podman("logs", id), "the log")
    assert podman("exec", id, "cat", "/sys/fs/cgroup/pids.max") == "50"
    podman("exec", id, "sh", "-c", "exit 5", status=5)
    assert "sh" in podman("top", id, "comm")
    assert podman("stats", "--no-stream", "--format", "{{.PIDS}}", id).isdigit()
    podman("pause", id)
    assert podman.inspect(id)["State"]["Status"] == "paused"
    podman("unpause", id)
    podman("stop", "--time", "30", id)
    assert podman.inspect(id)["State"]["ExitCode"] == 3
    podman("start", id)
    podman("kill", "--signal", "KILL", id)
    until(lambda: podman.inspect(id)["State"]["ExitCode"] == 137, "killed")
    podman.remove(id)


def test_podman_sets_and_updates_limits(podman: Podman) -> None:
    id = podman.start(TRAP, "--memory", "64m", "--cpus", "0.5", "--pids-limit", "40")
    files = "memory.max cpu.max pids.max"
    script = f"cd /sys/fs/cgroup; cat {files}"
    assert podman("exec", id, "sh", "-c", script).split() == ["67108864", "50000", "100000", "40"]
    if podman.manager == "systemd":
        unit = f"libpod-{id}.scope"
        assert output("systemctl", "show", "-P", "MemoryMax", unit).strip() == "67108864"
    podman("update", "--memory", "96m", id)
    assert podman("exec", id, "cat", "/sys/fs/cgroup/memory.max") == str(96 << 20)
    podman.remove(id)


def test_podman_mounts_volumes_and_adds_devices(podman: Podman, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "file").write_text("content\n")
    script = (
        "cat /v/file; touch /v/new 2>/dev/null || echo ro; touch /x 2>/dev/null || echo root-ro;"
        " touch /t/y && echo tmpfs; head -c1 /dev/odd | od -An -tx1; cat /proc/1/comm"
    )
    words = podman.run(
        script, "--read-only", "--tmpfs", "/t", "--volume", f"{tmp_path}:/v:ro",
        "--device", "/dev/zero:/dev/odd", "--init",
    ).split()  # fmt: skip
    assert words[:5] == ["content", "ro", "root-ro", "tmpfs", "00"]
    assert words[5] in ("catatonit", "podman-init")


def test_podman_restricts_capabilities_and_privileges(podman: Podman) -> None:
    script = "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status"
    words = podman.run(
        script, "--cap-drop", "all", "--cap-add", "kill", "--security-opt", "no-new-privileges"
    ).split()
    assert words == ["CapEff:", "0000000000000020", "NoNewPrivs:", "1", "Seccomp:", "2"]
    assert podman.run("id -u; id -g", "--user", "5:6").split() == ["5", "6"]


def test_podman_maps_ids(podman: Podman) -> None:
    maps = ("--uidmap", "0:100000:5000", "--gidmap", "0:100000:5000")
    words = podman.run("cat /proc/self/uid_map; echo > /tmp/x && id -u", *maps).split()
    assert words == ["0", "100000", "5000", "0"]


def test_podman_runs_a_health_check(podman: Podman) -> None:
    id = podman.start(TRAP, "--health-cmd", "true", "--health-interval", "disable")
    podman("healthcheck", "run", id)
    assert podman.inspect(id)["State"]["Health"]["Status"] == "healthy"
    podman.remove(id)


def test_podman_runs_a_pod(podman: Podman) -> None:
    podman("pod", "create", "--name", "pod", "--network", "none", "--infra-image", IMAGE,
           "--infra-command", "/bin/sleep 300")  # fmt: skip
    ids = [podman("run", "--detach", "--pod", "pod", IMAGE, "sh", "-c", TRAP) for _ in range(2)]
    first, second = (podman("exec", id, "ls", "-l", "/proc/self/ns/ipc") for id in ids)
    assert first.rpartition("->")[2] == second.rpartition("->")[2]
    podman("pod", "rm", "--force", "--time", "0", "pod")


@pytest.mark.needs_criu
def test_podman_checkpoints_and_restores(podman: Podman) -> None:
    id = podman.start("i=0; while :; do i=$((i+1)); echo $i; sleep 0.2; done")
    until(lambda: "3" in podman("logs", id).split(), "the log")
    podman("container", "checkpoint", id)
    assert podman.inspect(id)["State"]["Status"] == "exited"
    count = int(podman("logs", id).split()[-1])
    podman("container", "restore", id)
    assert podman.inspect(id)["State"]["Status"] == "running"
    until(lambda: str(count + 3) in podman("logs", id).split(), "the log goes on")
    podman.remove(id)


def test_podman_chooses_ids(podman: Podman) -> None:
    """--userns auto takes them from those of the user containers."""
    for name in ("/etc/subuid", "/etc/subgid"):
        with Path(name).open("a") as ids:
            ids.write("containers:2000000:1000000\n")
    words = podman.run("cat /proc/self/uid_map; id -u", "--userns", "auto:size=4096").split()
    assert words == ["0", "2000000", "4096", "0"]


@pytest.mark.needs_systemd
def test_podman_runs_as_a_unit_of_systemd(podman: Podman) -> None:
    """`generate systemd --new` makes a unit that waits for the notification of conmon."""
    id = podman.start(TRAP, "--name", "unit")
    text = podman("generate", "systemd", "--new", "--name", "unit")
    podman.remove(id)
    file = Path("/run/systemd/system/lab-unit.service")
    file.write_text(text)
    output("systemctl", "daemon-reload")
    output("systemctl", "start", "lab-unit")
    assert output("systemctl", "is-active", "lab-unit").strip() == "active"
    assert podman("exec", "unit", "cat", "/proc/1/comm") == "sh"
    output("systemctl", "stop", "lab-unit")
    file.unlink()
