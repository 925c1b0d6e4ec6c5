"""
Children that the kernel kills on creation.

Linux 6.14 and later counts how often each cgroup was emptied with cgroup.kill, and kills a child
that is created (CLONE_INTO_CGROUP) in a cgroup whose count differs from its parent's. So once a
cgroup was emptied, the container's or the caller's, no container could start any more.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontain
from pycontain.cgroup.place import find_mount
from tests.bundles import TOKEN

pytestmark = pytest.mark.needs_root


@pytest.fixture
def emptied() -> Iterator[Path]:
    """A cgroup that was once emptied with cgroup.kill."""
    path = Path(find_mount()) / f"{TOKEN}-emptied"
    path.mkdir()
    (path / "cgroup.kill").write_text("1")
    yield path
    path.rmdir()


@pytest.fixture(params=["the container's", "the caller's"])
def arranged(request, emptied, bundle):
    """(bundle, how to start the runtime): one of the two cgroups has been emptied."""
    if request.param == "the container's":
        return bundle("sleep 1000", {"linux.cgroupsPath": f"/{emptied.name}"}), {}
    return bundle("sleep 1000"), {"preexec_fn": lambda: enter(emptied)}


def enter(cgroup: Path) -> None:
    (cgroup / "cgroup.procs").write_text(str(os.getpid()))


def cgroup_of(pid: int) -> str:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line[3:] for line in lines if line.startswith("0::"))


def test_a_container_can_be_created_and_entered(runtime, arranged) -> None:
    made, how = arranged
    container = runtime.started(made, **how)
    wanted = made.config["linux"].get("cgroupsPath", f"/{container}")
    assert cgroup_of(runtime.state(container)["pid"]) == wanted
    assert runtime.ok("exec", container, "echo", "hello", **how).words == ["hello"]
    runtime.ok("delete", "--force", container)


def test_a_child_of_vfork_is_in_its_containers_cgroup(runtime, arranged) -> None:
    made, how = arranged
    made.edit({"process.args": ["grep", "0::", "/proc/self/cgroup"]})
    id = runtime.new_id()
    wanted = made.config["linux"].get("cgroupsPath", f"/{id}")
    done = runtime.ok("run", "--bundle", made.path, id, **how)
    assert done.words == [f"0::{wanted}"]


def test_the_library_creates_and_enters_containers_where_children_are_killed(
    emptied, bundle, tmp_path
) -> None:
    made = bundle("sleep 1000", {"linux.cgroupsPath": f"/{emptied.name}"})
    options = pycontain.Options(root=str(tmp_path / "state"))
    try:
        with pycontain.Container(made.path, options=options) as container:
            container.create()
            container.start()
            assert container.exec(["echo", "hello"]).stdout == b"hello\n"
        assert pycontain.run(made.path, ["echo", "hello"], options=options).stdout == b"hello\n"
    finally:
        pycontain.close()
