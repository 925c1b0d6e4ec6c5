"""What is counted and limited where cgroup v2 has every controller: events, update, controllers."""

from pathlib import Path

import pytest

from tests.lab.containers import Runtime

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cgroup2, pytest.mark.needs_busybox]

IDLE = "echo up; exec sleep 300"


def test_a_containers_cgroup_has_every_controller(runtime: Runtime) -> None:
    container = runtime.start(runtime.bundle(IDLE))
    offered = Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
    assert container.read("cgroup.controllers").split() == offered
