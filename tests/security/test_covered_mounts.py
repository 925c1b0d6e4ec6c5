"""
Masks hold for what the container sees, also where something covers a mount of the configuration.

A hook, or a mount whose path is another name of that place, can cover /sys or /proc as a whole:
what is looked up in the mount below would then be masked out of everybody's sight.
"""

from __future__ import annotations

import pytest

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


def test_what_a_mount_by_another_name_covers_is_masked(runtime, bundle, cover):
    made = bundle(LOOK, HIDE)
    (made.rootfs / "alias").symlink_to("/sys")
    over = {"destination": "/alias", "type": "bind", "source": str(cover), "options": ["bind"]}
    made.edit({"mounts": [*made.config["mounts"], SYS, over]})
    check(runtime.run(made))


def test_what_a_hook_covers_is_masked(runtime, bundle, cover):
    made = bundle(LOOK, HIDE)
    made.edit({"mounts": [*made.config["mounts"], SYS]})
    hook = made.script("hook", f"mount --bind {cover} {made.rootfs}/sys")
    made.edit({"hooks": {"createContainer": [{"path": str(hook), "env": ["PATH=/bin:/sbin"]}]}})
    check(runtime.run(made))


def check(done):
    assert "secret" not in done.out
    assert "Read-only file system" in done.out
    assert done.words[-1] == "2"
