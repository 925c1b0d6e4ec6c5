"""
CVE-2025-52881, CVE-2025-62596: what the runtime writes to /proc lands in another file, because the
container's mounts or image put one there.
"""

from __future__ import annotations

import os

import pytest

from pycontain.kernel import calls
from pycontain.kernel import const as c
from tests.security.attack import in_a_child

pytestmark = pytest.mark.needs_root

SYSCTL = "net/ipv4/ip_unprivileged_port_start"


@pytest.fixture
def faked(bundle):
    """A bundle without a proc file system, whose image contains a fake one."""
    made = bundle(
        "true", {"linux.sysctl": {SYSCTL.replace("/", "."): "7"}, "process.oomScoreAdj": 77}
    )
    made.edit({"mounts": made.config["mounts"][1:]})
    for name in (
        f"proc/sys/{SYSCTL}",
        "proc/self/oom_score_adj",
        "proc/1/oom_score_adj",
        "proc/thread-self/attr/exec",
    ):
        (made.rootfs / name).parent.mkdir(parents=True, exist_ok=True)
        (made.rootfs / name).write_text("fake\n")
    return made


def files(made):
    return {path: path.read_text() for path in (made.rootfs / "proc").rglob("*") if path.is_file()}


def real_sysctl(pid):
    """The parameter in a process's network namespace."""

    def read():
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        calls.setns(fd, c.CLONE_NEWNET)
        with open(f"/proc/sys/{SYSCTL}") as file:
            return file.read()

    return in_a_child(read)


def test_parameters_and_scores_are_written_to_the_kernel(runtime, faked):
    before = files(faked)
    container = runtime.create(faked)
    pid = runtime.state(container)["pid"]
    assert real_sysctl(pid) == "7\n"
    with open(f"/proc/{pid}/oom_score_adj") as file:
        assert file.read() == "77\n"
    assert files(faked) == before


def test_a_link_in_place_of_proc_changes_nothing(runtime, bundle):
    made = bundle("true", {"linux.sysctl": {SYSCTL.replace("/", "."): "7"}})
    made.edit({"mounts": made.config["mounts"][1:]})
    (made.rootfs / "proc").rmdir()
    (made.rootfs / "proc").symlink_to("tmp")
    (made.rootfs / f"tmp/sys/{SYSCTL}").parent.mkdir(parents=True)
    (made.rootfs / f"tmp/sys/{SYSCTL}").write_text("fake\n")
    container = runtime.create(made)
    assert real_sysctl(runtime.state(container)["pid"]) == "7\n"
    assert (made.rootfs / f"tmp/sys/{SYSCTL}").read_text() == "fake\n"


def test_the_private_proc_is_closed_after_use(runtime, faked):
    """No path is masked there: a process that reached it could write any parameter."""
    container = runtime.create(faked)
    pid = runtime.state(container)["pid"]
    kinds = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        opened = os.open(f"/proc/{pid}/fd/{fd}", os.O_PATH)
        kinds.append(calls.filesystem_type(opened))
        os.close(opened)
    assert c.PROC_SUPER_MAGIC not in kinds


@pytest.mark.control
def test_a_naive_write_lands_in_the_image(faked):
    def run():
        os.chroot(faked.rootfs)
        with open(f"/proc/sys/{SYSCTL}", "w") as file:
            file.write("7")
        with open(f"/proc/sys/{SYSCTL}") as file:
            return file.read()

    assert in_a_child(run) == "7"
    assert "7" in files(faked).values()
