"""Cgroups on the running kernel. What limits enforce is tested in tests/lab."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pycontain.cgroup.place import find_mount, own
from pycontain.cgroup.tree import Cgroup
from pycontain.errors import HostError, KernelError, StateError, Timeout
from pycontain.kernel import calls
from pycontain.plan.resources import files
from pycontain.spec import parse, records

pytestmark = pytest.mark.needs_root


def resources(**parts: object) -> records.Resources:
    return parse.read(records.Resources, parts, "linux.resources")


@pytest.fixture
def cgroup(request: pytest.FixtureRequest) -> Iterator[Cgroup]:
    """A cgroup with a unique name, not created yet; removed at the end."""
    name = f"/pycontain-test-{os.getpid()}-{abs(hash(request.node.name)) % 10**8}"
    tested = Cgroup(find_mount(), name)
    yield tested
    swept = Cgroup(tested.mount, name, made=(name,))
    if os.path.isdir(swept.directory):
        swept.thaw()
        swept.kill()
        swept.remove()
    tested.close()


class Child:
    """A process started in a cgroup, which answers each byte it is sent until it is killed."""

    def __init__(self, cgroup: Cgroup) -> None:
        questions, self.ask = os.pipe()
        self.answers, answer = os.pipe()
        self.ended = False
        self.pid, self.pidfd = calls.clone3(0, cgroup.fd)
        if not self.pid:
            try:
                while question := os.read(questions, 1):
                    os.write(answer, question)
            finally:
                os._exit(0)
        os.close(questions)
        os.close(answer)

    def answered(self, seconds: float) -> bool:
        """Whether an answer arrives in this time."""
        import select

        return bool(select.select([self.answers], [], [], seconds)[0]) and bool(
            os.read(self.answers, 1)
        )

    def status(self) -> int:
        """Wait for it; returns its exit status, or minus the signal that killed it."""
        self.ended = True
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def end(self) -> None:
        """Kill it, unless it has been waited for."""
        if not self.ended:
            calls.send_signal(self.pidfd, signal.SIGKILL)
            self.status()
        for fd in (self.ask, self.answers, self.pidfd):
            os.close(fd)


@pytest.fixture
def start_child() -> Iterator[Callable[[Cgroup], Child]]:
    """Start children, and kill them at the end."""
    children: list[Child] = []

    def make(cgroup: Cgroup) -> Child:
        children.append(Child(cgroup))
        return children[-1]

    yield make
    for child in children:
        child.end()


def test_a_created_cgroup_is_removed_with_the_cgroups_above_it(cgroup: Cgroup) -> None:
    below = Cgroup(cgroup.mount, f"{cgroup.path}/pod/web")
    below.create()
    assert below.made == (cgroup.path, f"{cgroup.path}/pod", f"{cgroup.path}/pod/web")
    assert below.read("cgroup.procs") == ""
    below.remove()
    assert not os.path.exists(cgroup.directory)


def test_an_existing_cgroup_is_not_removed(cgroup: Cgroup) -> None:
    os.mkdir(cgroup.directory)
    cgroup.create()
    assert cgroup.made == ()
    cgroup.remove()
    assert os.path.isdir(cgroup.directory)


def test_a_cgroup_above_stays_while_another_container_uses_it(cgroup: Cgroup) -> None:
    first = Cgroup(cgroup.mount, f"{cgroup.path}/first")
    second = Cgroup(cgroup.mount, f"{cgroup.path}/second")
    first.create()
    second.create()
    first.remove()
    assert os.path.isdir(second.directory)
    second.remove()


def test_a_cgroup_above_that_is_removed_meanwhile_is_created_again(
    cgroup: Cgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = Cgroup(cgroup.mount, f"{cgroup.path}/web")
    real, tries = os.mkdir, []

    def mkdir(path: str, mode: int = 0o777) -> None:
        tries.append(path)
        if len(tries) == 2:  # just before the inner one is created
            os.rmdir(cgroup.directory)
        real(path, mode)

    monkeypatch.setattr(os, "mkdir", mkdir)
    below.create()
    monkeypatch.undo()
    assert os.path.isdir(below.directory)
    assert below.made == (cgroup.path, below.path)
    below.remove()


def test_removing_a_deleted_cgroup_is_no_error(cgroup: Cgroup) -> None:
    cgroup.create()
    os.rmdir(cgroup.directory)
    cgroup.remove()


def test_a_child_starts_in_the_cgroup(
    cgroup: Cgroup, start_child: Callable[[Cgroup], Child]
) -> None:
    cgroup.create()
    child = start_child(cgroup)
    assert own(child.pid) == cgroup.path
    assert cgroup.pids() == [child.pid]


def test_a_process_can_be_moved_into_a_cgroup(
    cgroup: Cgroup, start_child: Callable[[Cgroup], Child]
) -> None:
    cgroup.create()
    child = start_child(Cgroup(cgroup.mount, ""))
    cgroup.enter(child.pid)
    assert cgroup.pids() == [child.pid]


def test_a_cgroup_with_processes_is_refused(
    cgroup: Cgroup, start_child: Callable[[Cgroup], Child]
) -> None:
    cgroup.create()
    child = start_child(cgroup)
    with pytest.raises(StateError, match=f"already has processes in it: {child.pid}") as caught:
        Cgroup(cgroup.mount, cgroup.path).create()
    assert caught.value.fault.at == cgroup.directory
    assert os.path.isdir(cgroup.directory)


def test_a_frozen_cgroup_and_one_below_it_are_refused(cgroup: Cgroup) -> None:
    cgroup.create()
    cgroup.freeze()
    with pytest.raises(StateError, match="is frozen"):
        Cgroup(cgroup.mount, cgroup.path).create()
    below = Cgroup(cgroup.mount, f"{cgroup.path}/web")
    with pytest.raises(StateError, match="is frozen"):
        below.create()
    assert not os.path.exists(below.directory)


def test_frozen_processes_do_nothing_until_they_are_thawed(
    cgroup: Cgroup, start_child: Callable[[Cgroup], Child]
) -> None:
    cgroup.create()
    child = start_child(cgroup)
    os.write(child.ask, b"?")
    assert child.answered(30)
    cgroup.freeze()
    assert cgroup.frozen
    os.write(child.ask, b"?")
    assert not child.answered(0.05)
    cgroup.thaw()
    assert not cgroup.frozen
    assert child.answered(30)


def test_an_error_of_thawing_names_a_frozen_cgroup_above(cgroup: Cgroup) -> None:
    below = Cgroup(cgroup.mount, f"{cgroup.path}/web")
    below.create()
    below.freeze()
    cgroup.freeze()
    with pytest.raises(Timeout, match="the cgroup above"):
        below.thaw(seconds=0)


def test_killing_ends_every_process_and_removal_waits_for_that(
    cgroup: Cgroup, start_child: Callable[[Cgroup], Child]
) -> None:
    cgroup.create()
    inner = cgroup.below("made/by/the/container")
    os.makedirs(inner.directory)
    children = [start_child(cgroup), start_child(inner)]
    assert cgroup.pids() == sorted(child.pid for child in children)
    cgroup.freeze()  # frozen ones are killed too
    cgroup.kill()
    cgroup.remove()
    assert not os.path.exists(cgroup.directory)
    assert [child.status() for child in children] == [-signal.SIGKILL] * 2
    inner.close()


def test_an_existing_empty_cgroup_can_be_cleared_and_used_again(
    cgroup: Cgroup, start_child: Callable[[Cgroup], Child]
) -> None:
    os.mkdir(cgroup.directory)
    for _ in range(2):
        cgroup.create()
        cgroup.kill()
        cgroup.clear()
    child = start_child(cgroup)
    os.write(child.ask, b"?")
    assert child.answered(30), "the kernel killed it when it was created"


def test_clearing_an_existing_cgroup_kills_the_processes_in_it_and_below(
    cgroup: Cgroup, start_child: Callable[[Cgroup], Child]
) -> None:
    inner = cgroup.below("made/by/the/container")
    os.makedirs(inner.directory)
    cgroup.create()
    children = [start_child(cgroup), start_child(inner)]
    cgroup.clear()
    assert os.path.isdir(cgroup.directory)
    assert cgroup.read("cgroup.procs") == "", "it waited until they exited"
    assert [child.status() for child in children] == [-signal.SIGKILL] * 2
    inner.close()


def test_clearing_a_deleted_cgroup_is_no_error(cgroup: Cgroup) -> None:
    cgroup.clear()
    os.mkdir(cgroup.directory)
    cgroup.create()
    os.rmdir(cgroup.directory)
    cgroup.clear()


def test_a_cgroup_with_running_processes_is_not_removed(
    cgroup: Cgroup, start_child: Callable[[Cgroup], Child]
) -> None:
    cgroup.create()
    child = start_child(cgroup)
    with pytest.raises(Timeout, match=f"still has processes after 0 s: {child.pid}"):
        cgroup.remove(seconds=0)
    assert os.path.isdir(cgroup.directory)


def test_a_container_cannot_nest_cgroups_too_deep_to_be_removed(cgroup: Cgroup) -> None:
    cgroup.create()
    here = os.open(cgroup.directory, os.O_RDONLY)
    for _ in range(20):  # 20 names of 250 letters are longer than PATH_MAX
        os.mkdir("x" * 250, dir_fd=here)
        below = os.open("x" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    with pytest.raises(OSError, match="too long"):
        _remove_by_paths(cgroup.directory)
    cgroup.remove()
    assert not os.path.exists(cgroup.directory)


def _remove_by_paths(directory: str) -> None:
    """The naive way."""
    for entry in list(os.scandir(directory)):
        if entry.is_dir():
            _remove_by_paths(entry.path)
    os.rmdir(directory)


def test_the_path_of_a_cgroup_below_cannot_lead_outside(cgroup: Cgroup) -> None:
    assert cgroup.below("../../x").path == f"{cgroup.path}/x"


def test_a_value_that_the_kernel_refuses_is_named_with_its_field(cgroup: Cgroup) -> None:
    cgroup.create()
    with pytest.raises(KernelError) as caught:
        cgroup.write(files(resources(unified={"cgroup.max.depth": "deep"})))
    assert str(caught.value) == (
        f"write {cgroup.directory}/cgroup.max.depth:"
        " linux.resources.unified[cgroup.max.depth] = deep invalid argument"
    )


def test_a_limit_of_a_controller_that_v1_holds_is_refused_by_name(cgroup: Cgroup) -> None:
    controllers = Path(cgroup.mount, "cgroup.controllers").read_text().split()
    if "memory" in controllers or not os.path.isdir("/sys/fs/cgroup/memory"):
        pytest.skip("needs a hybrid host, where cgroup v1 holds the memory controller")
    cgroup.create()
    with pytest.raises(HostError, match="hierarchy at /sys/fs/cgroup/memory") as caught:
        cgroup.write(files(resources(memory={"limit": 2**20})))
    assert caught.value.fault.at == "linux.resources.memory.limit"


@pytest.fixture
def hugetlb(cgroup: Cgroup) -> Iterator[None]:
    """Restore the root's controllers at the end."""
    control = Path(cgroup.mount, "cgroup.subtree_control")
    if "hugetlb" not in Path(cgroup.mount, "cgroup.controllers").read_text().split():
        pytest.skip("needs the hugetlb controller in cgroup v2")
    before = control.read_text().split()
    yield
    if "hugetlb" not in before:
        Cgroup(cgroup.mount, cgroup.path, made=(cgroup.path,)).remove()
        try:
            control.write_text("-hugetlb")
        except OSError:  # another test uses it
            pass


def test_a_controller_is_enabled_when_a_limit_needs_it(cgroup: Cgroup, hugetlb: None) -> None:
    below = Cgroup(cgroup.mount, f"{cgroup.path}/web")
    below.create()
    below.write(files(resources(hugepageLimits=[{"pageSize": "2MB", "limit": 4 << 20}])))
    assert below.read("hugetlb.2MB.max").strip() == "4194304"
    assert below.read("hugetlb.2MB.rsvd.max").strip() == "4194304"
    below.remove()


@pytest.mark.property(
    "linux.resources",
    "linux.resources.memory.limit",
    "linux.resources.memory.swap",
    "linux.resources.memory.reservation",
    "linux.resources.cpu.shares",
    "linux.resources.cpu.quota",
    "linux.resources.cpu.period",
    "linux.resources.cpu.burst",
    "linux.resources.cpu.cpus",
    "linux.resources.pids*",
    "linux.resources.unified",
)
@pytest.mark.needs_cgroup2
def test_the_kernel_accepts_every_limit(cgroup: Cgroup) -> None:
    everything = resources(
        memory={"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20},
        cpu={"shares": 2048, "quota": 20_000, "period": 50_000, "burst": 10_000, "cpus": "0"},
        pids={"limit": 50},
        unified={"memory.high": "50331648"},
    )
    cgroup.create()
    cgroup.write(files(everything))
    held = {"memory.max", "memory.low", "memory.high", "cpu.weight", "cpu.max", "cpu.max.burst"}
    assert {file: cgroup.read(file).strip() for file in sorted(held)} == {
        "cpu.max": "20000 50000",
        "cpu.max.burst": "10000",
        "cpu.weight": "174",
        "memory.high": "50331648",
        "memory.low": "33554432",
        "memory.max": "67108864",
    }
    assert cgroup.read("pids.max").strip() == "50"
    assert cgroup.read("cpuset.cpus").strip() == "0"
    assert cgroup.oom_kills() == 0
