"""
Masks apply to what the container sees, even where something covers a configured mount.

A hook, or a mount whose path is another name for the place, can cover all of /sys or /proc: masks
that are looked up in the covered mount would have no effect.
"""

from __future__ import annotations

import os

import pytest

from pycontain.kernel.root import Root
from tests.security.attack import in_a_child
from tests.security.test_swapped_mount_points import build_root, is_read_only

pytestmark = pytest.mark.needs_root

SYS = {"destination": "/sys", "type": "sysfs", "options": ["ro"]}
HIDE = {"linux.maskedPaths": ["/sys/firmware"], "linux.readonlyPaths": ["/sys/kernel"]}
LOOK = "ls /sys/firmware; touch /sys/kernel/new 2>&1; mount | grep -c ' on /sys '"


@pytest.fixture
def cover(tmp_path):
    """A directory that looks a little like /sys, with something to hide."""
    for name in ("firmware", "kernel"):
        (tmp_path / "cover" / name).mkdir(parents=True)
    (tmp_path / "cover/firmware/secret").touch()
    return tmp_path / "cover"


@pytest.fixture
def covered(bundle, cover):
    """A bundle with a mount on /sys, and then one on a link to it."""
    made = bundle(LOOK, HIDE)
    (made.rootfs / "alias").symlink_to("/sys")
    over = {"destination": "/alias", "type": "bind", "source": str(cover), "options": ["bind"]}
    made.edit({"mounts": [*made.config["mounts"], SYS, over]})
    return made


def test_a_mount_that_covers_sys_by_another_name_is_masked(runtime, covered):
    check(runtime.run(covered))


@pytest.mark.control
def test_naive_masks_are_below_the_covering_mount(covered, monkeypatch):
    """A runtime that looks up a path in the mount it made there, and nowhere else."""
    monkeypatch.setattr(Root, "_is_covered", lambda self, place: False)
    sys = covered.rootfs / "sys"

    def work():
        build_root(covered, -1, "", "nothing is swapped")
        return [os.listdir(sys / "firmware"), is_read_only(sys / "kernel")]

    assert in_a_child(work) == [["secret"], False]


def test_a_mount_that_a_hook_put_over_sys_is_masked(runtime, bundle, cover):
    made = bundle(LOOK, HIDE)
    made.edit({"mounts": [*made.config["mounts"], SYS]})
    hook = made.script("hook", f"mount --bind {cover} {made.rootfs}/sys")
    made.edit({"hooks": {"createContainer": [{"path": str(hook), "env": ["PATH=/bin:/sbin"]}]}})
    check(runtime.run(made))


def check(done):
    assert "secret" not in done.out
    assert "Read-only file system" in done.out
    assert done.words[-1] == "2"
