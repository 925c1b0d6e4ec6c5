"""config.md, linux.rootfsPropagation and Mounts: who sees what is mounted later, and where."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundles import Bundle, wait_until
from tests.conformance import mountinfo
from tests.conformance.test_mounts import also, seen


@pytest.fixture
def host_mount(tmp_path: Path, shared_mounts: None) -> Iterator[Path]:
    """A shared mount of the host; everything mounted below it is unmounted afterwards."""
    top = tmp_path / "host"
    top.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "host", top], check=True)
    (top / "sub").mkdir()
    yield top
    subprocess.run(["umount", "--recursive", top], check=True)


ROOT = {
    None: {"master"},
    "shared": {"shared"},
    "slave": {"master"},
    "private": set(),
    "unbindable": {"unbindable"},
    "rshared": {"shared"},
    "rslave": {"master"},
    "rprivate": set(),
    "runbindable": {"unbindable"},
}


@pytest.mark.property("linux.rootfsPropagation")
@pytest.mark.parametrize("option", ROOT)
def test_the_root_has_the_configured_propagation(runtime, bundle, option):
    """config-linux.md, Rootfs Mount Propagation; the host's mounts are shared."""
    changes = {"linux.rootfsPropagation": option} if option else {}
    made = bundle("cat /proc/self/mountinfo", changes)
    assert seen(runtime, made)["/"].propagation == ROOT[option]


@pytest.mark.parametrize("option", ["rshared", "rslave", "rprivate", "runbindable"])
def test_the_roots_propagation_leaves_that_of_the_mounts_unchanged(
    runtime, bundle, host_mount, option
):
    """config.md, Linux mount options: each mount has its own propagation option."""
    words = ("shared", "private", "unbindable")
    binds = [
        {"destination": f"/{own}", "source": str(host_mount), "options": ["bind", own]}
        for own in words
    ]
    changes = {"mounts": also(*binds), "linux.rootfsPropagation": option}
    found = seen(runtime, bundle("cat /proc/self/mountinfo", changes))
    assert {own: found[f"/{own}"].propagation - {"master"} for own in words} == {
        "shared": {"shared"},
        "private": set(),
        "unbindable": {"unbindable"},
    }
    assert found["/proc"].propagation == set()


@pytest.fixture
def on_a_shared_mount(bundle, host_mount) -> Bundle:
    """A bundle whose rootfs is on a shared mount of the host."""
    made = bundle("echo up; while [ ! -e /tmp/go ]; do sleep .01; done; cat /proc/self/mountinfo")
    rootfs = host_mount / "rootfs"
    shutil.copytree(made.rootfs, rootfs, symlinks=True)
    (rootfs / "late").mkdir()
    (rootfs / "out").mkdir()
    made.edit({"root.path": str(rootfs)})
    return made


@pytest.mark.parametrize("option", [None, "slave", "rslave", "private", "rprivate"])
def test_a_slave_root_receives_what_the_host_mounts_in_it(runtime, on_a_shared_mount, option):
    made = on_a_shared_mount
    made.edit({"linux.rootfsPropagation": option} if option else {})
    rootfs = Path(made.config["root"]["path"])
    id = runtime.started(made)
    runtime.wait_for_text(id, "up")
    subprocess.run(["mount", "-t", "tmpfs", "late", rootfs / "late"], check=True)
    (rootfs / "tmp/go").touch()
    runtime.wait_for_status(id, "stopped")
    arrived = " /late " in runtime.printed(id)
    assert arrived == (option not in ("private", "rprivate"))


@pytest.mark.parametrize("option", [None, "slave", "rslave", "shared"])
def test_no_mount_of_the_container_propagates_out_of_its_root(runtime, on_a_shared_mount, option):
    """Neither the configured mounts nor the one that the program adds."""
    made = on_a_shared_mount
    script = "mount -t tmpfs out /out && echo mounted; while [ ! -e /tmp/go ]; do sleep .01; done"
    made.edit({"process.args": ["sh", "-c", script]})
    made.edit({"linux.rootfsPropagation": option} if option else {})
    rootfs = Path(made.config["root"]["path"])
    id = runtime.started(made)
    runtime.wait_for_text(id, "mounted")
    points = mountinfo.read(Path("/proc/self/mountinfo").read_text())
    assert [point for point in points if point.startswith(f"{rootfs}")] == []
    (rootfs / "tmp/go").touch()
    runtime.wait_for_status(id, "stopped")


def host_sees(folder: Path) -> bool:
    return f" {folder} " in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize(
    ("option", "arrives"), [("rslave", True), ("rshared", True), ("rprivate", False)]
)
def test_later_mounts_of_the_host_arrive_by_propagation(
    runtime, bundle, host_mount, option, arrives
):
    script = (
        "echo up; while [ ! -e /tmp/go ]; do sleep .01; done; cat /proc/self/mountinfo; echo end"
    )
    mount = {"destination": "/host", "source": str(host_mount), "options": ["rbind", option]}
    made = bundle(script, {"mounts": also(mount)})
    id = runtime.started(made)
    runtime.wait_for_text(id, "up")
    subprocess.run(["mount", "-t", "tmpfs", "late", host_mount / "sub"], check=True)
    (made.rootfs / "tmp/go").touch()
    runtime.wait_for_text(id, "end")
    assert ("/host/sub" in runtime.printed(id)) == arrives


@pytest.mark.parametrize(("root", "arrives"), [("rshared", True), ("rslave", False)])
def test_mounts_of_the_container_reach_the_host_only_if_everything_is_shared(
    runtime, bundle, host_mount, root, arrives
):
    script = (
        "mount -t tmpfs out /host/sub && echo mounted; while [ ! -e /tmp/go ]; do sleep .01; done"
    )
    mount = {"destination": "/host", "source": str(host_mount), "options": ["rbind", "rshared"]}
    made = bundle(script, {"mounts": also(mount), "linux.rootfsPropagation": root})
    id = runtime.started(made)
    runtime.wait_for_text(id, "mounted")
    assert host_sees(host_mount / "sub") == arrives
    (made.rootfs / "tmp/go").touch()
    runtime.wait_for_status(id, "stopped")


def test_nothing_propagates_out_of_a_private_bind_mount(runtime, bundle, host_mount):
    mount = {"destination": "/host", "source": str(host_mount), "options": ["rbind"]}
    made = bundle("mount -t tmpfs out /host/sub && echo mounted", {"mounts": also(mount)})
    assert runtime.output(made).out == "mounted\n"
    assert not host_sees(host_mount / "sub")


def test_creating_the_root_leaves_the_hosts_mounts_shared(runtime, bundle):
    runtime.output(bundle("true"))
    assert "shared" in mountinfo.read(Path("/proc/self/mountinfo").read_text())["/"].propagation


def test_busy_mounts_of_the_host_can_be_unmounted_while_a_container_runs(
    runtime, bundle, host_mount
):
    subprocess.run(["mount", "-t", "tmpfs", "x", host_mount / "sub"], check=True)
    id = runtime.started(bundle("echo up; sleep 100"))
    runtime.wait_for_text(id, "up")
    subprocess.run(["umount", host_mount / "sub"], check=True)
    wait_until(lambda: not host_sees(host_mount / "sub"), "the mount is gone")
