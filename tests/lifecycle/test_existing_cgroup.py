"""A container in a cgroup that existed before: it leaves the cgroup unchanged, except for limits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontain.cgroup.place import find_mount
from pycontain.cgroup.tree import Cgroup
from pycontain.kernel import bpf
from pycontain.kernel import const as c
from tests.bundles import TOKEN

NO_PID_NAMESPACE = {"linux.namespaces": [{"type": "mount"}, {"type": "uts"}]}
LEAVES_ONE = "sleep 55 & echo up"
STAYS = "sleep 55 & echo up; sleep 55"


@pytest.fixture
def existing(runtime) -> Iterator[Cgroup]:
    """An empty cgroup that no container created."""
    cgroup = Cgroup(find_mount(), f"/{TOKEN}-existing")
    os.mkdir(cgroup.directory)
    yield cgroup
    cgroup.close()
    Cgroup(cgroup.mount, cgroup.path, made=(cgroup.path,)).clear()


@pytest.fixture
def inside(existing, bundle):
    """Creates bundles that use this cgroup: inside(script, {JSON path: value})."""
    return lambda script, changes=(): bundle(
        script, {"linux.cgroupsPath": existing.path, **dict(changes)}
    )


def is_filtered(cgroup: Cgroup) -> bool:
    """Whether pycontain's device filter is attached to it."""
    program = bpf.attached(cgroup.fd, c.BPF_CGROUP_DEVICE, b"pycontain")
    if program >= 0:
        os.close(program)
    return program >= 0


def test_an_existing_cgroup_can_be_used_again(runtime, inside, existing):
    for _ in range(3):
        assert runtime.output(inside("echo up")).out == "up\n"
    id = runtime.started(inside("echo up"))
    runtime.wait_for_status(id, "stopped")
    runtime.ok("delete", id)
    assert runtime.output(inside("echo up")).out == "up\n"


def test_an_existing_cgroup_can_be_used_again_after_a_failed_start(runtime, inside):
    missing = inside("", {"process.args": ["/no/such/program"]})
    assert "no such file or directory" in runtime.fails(missing)
    assert runtime.output(inside("echo up")).out == "up\n"
    runtime.refuses("create", "-b", missing.path, runtime.new_id())
    assert runtime.output(inside("echo up")).out == "up\n"


def test_a_cgroup_that_enables_controllers_for_others_is_refused_by_name(runtime, inside, existing):
    controller = Path(existing.directory, "cgroup.controllers").read_text().split()[-1]
    Path(existing.directory, "cgroup.subtree_control").write_text(f"+{controller}")
    text = runtime.fails(inside("echo up"))
    assert f"{existing.directory} cannot have processes: it enables {controller} for" in text
    Path(existing.directory, "cgroup.subtree_control").write_text(f"-{controller}")
    assert runtime.output(inside("echo up")).out == "up\n"


@pytest.mark.parametrize("words", [["delete"], ["delete", "--force"]], ids=" ".join)
def test_delete_kills_the_processes_that_a_stopped_container_left(runtime, inside, existing, words):
    id = runtime.started(inside(LEAVES_ONE, NO_PID_NAMESPACE))
    runtime.wait_for_status(id, "stopped")
    assert len(existing.pids()) == 1
    runtime.ok(*words, id)
    assert existing.pids() == []


def test_forced_delete_kills_all_processes_of_a_running_container(runtime, inside, existing):
    id = runtime.started(inside(STAYS, NO_PID_NAMESPACE))
    runtime.wait_for_text(id, "up")
    runtime.ok("delete", "--force", id)
    assert existing.pids() == []


def test_run_kills_the_processes_that_its_container_left_in_the_cgroup(runtime, inside, existing):
    assert runtime.output(inside(LEAVES_ONE, NO_PID_NAMESPACE)).out == "up\n"
    assert existing.pids() == []


def test_an_existing_cgroup_can_be_used_again_after_processes_were_killed_in_it(runtime, inside):
    for _ in range(2):
        assert runtime.output(inside(LEAVES_ONE, NO_PID_NAMESPACE)).out == "up\n"
    id = runtime.create(inside("echo up"))
    runtime.ok("delete", "--force", id)
    assert runtime.output(inside("echo up")).out == "up\n"


def test_an_existing_cgroup_can_be_used_again_after_a_paused_container(runtime, inside):
    id = runtime.started(inside(STAYS))
    runtime.ok("pause", id)
    runtime.ok("delete", "--force", id)
    assert runtime.output(inside("echo up")).out == "up\n"


def test_no_device_filter_remains_on_an_existing_cgroup(runtime, inside, existing):
    id = runtime.create(inside("echo up"))
    assert is_filtered(existing)
    runtime.ok("delete", "--force", id)
    assert not is_filtered(existing)
    runtime.output(inside("echo up"))
    assert not is_filtered(existing)
    runtime.fails(inside("", {"process.args": ["/no/such/program"]}))
    assert not is_filtered(existing)
