"""Podman of an ordinary user: cgroupfs and the user's systemd."""

import pytest

from tests.compat.engines import Podman
from tests.lab.containers import until

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_cgroup2,
    pytest.mark.needs_systemd,
    pytest.mark.needs_podman,
]

TRAP = "trap 'exit 3' TERM; echo up; while :; do sleep 0.2; done"


def test_rootless_podman_gets_output_status_and_ids(rootless: Podman) -> None:
    words = rootless.run("id -u; head -n1 /proc/self/uid_map; exit 4", status=4).split()
    assert rootless.user
    assert words == ["0", "0", str(rootless.user.uid), "1"]
    rootless("run", "--rm", "--network", "none", "localhost/lab", "/bin/none", status=127)


def test_rootless_podman_gets_a_terminal(rootless: Podman) -> None:
    assert rootless.in_terminal("tty").splitlines()[0] == "/dev/pts/0"


def test_rootless_podman_can_exec_limit_and_stop(rootless: Podman) -> None:
    limits = ("--memory", "64m", "--pids-limit", "40") if rootless.manager == "systemd" else ()
    id = rootless.start(TRAP, *limits)
    until(lambda: "up" in rootless("logs", id), "the log")
    if limits:
        script = "cd /sys/fs/cgroup; cat memory.max pids.max"
        assert rootless("exec", id, "sh", "-c", script).split() == ["67108864", "40"]
        rootless("pause", id)
        rootless("unpause", id)
    rootless("exec", id, "sh", "-c", "exit 5", status=5)
    rootless("stop", "--time", "30", id)
    assert rootless.inspect(id)["State"]["ExitCode"] == 3
    rootless.remove(id)


def test_rootless_podman_maps_ids(rootless: Podman) -> None:
    assert rootless.user
    assert rootless.run("id -u", "--userns", "keep-id") == str(rootless.user.uid)
    assert rootless.run("id -u; echo > /dev/null", "--userns", "nomap") == "0"


def test_rootless_podman_has_a_network_of_slirp4netns(rootless: Podman) -> None:
    assert "tap0" in rootless.run("ls /sys/class/net", "--network", "slirp4netns")
