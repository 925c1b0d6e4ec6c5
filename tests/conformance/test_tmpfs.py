"""
Mode and owner of a tmpfs, with tmpcopyup and without it.

What the options say is what it gets; what they leave open, it takes from the directory that it
covers, as a program of the image expects it; where there was none, the kernel's default holds.
"""

from __future__ import annotations

import os

import pytest

from tests.bundles import MOUNTS

STAT = "stat -c '%a %u:%g' /full"
LONG = f"size={'0' * 300}64k"  # longer than fsconfig(2) accepts


@pytest.fixture(params=[[], ["tmpcopyup"], [LONG]], ids=["empty", "copied", "long options"])
def full(request, bundle):
    """Makes a bundle with a tmpfs with these options on /full, a directory 0750 of 3:4."""

    def make(*options: str, script: str = STAT):
        mount = {"destination": "/full", "type": "tmpfs", "options": [*options, *request.param]}
        made = bundle(script, {"mounts": [*MOUNTS, mount]})
        (made.rootfs / "full").mkdir()
        (made.rootfs / "full/file").touch()
        (made.rootfs / "full").chmod(0o750)
        os.chown(made.rootfs / "full", 3, 4)
        return made

    return make


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], "750 3:4"),
        (["mode=1777"], "1777 3:4"),
        (["mode=0700", "uid=5"], "700 5:4"),
        (["uid=0", "gid=0"], "750 0:0"),
        (["gid=6"], "750 3:6"),
        (["size=1m,mode=1777,uid=8"], "1777 8:4"),
        (["ro", "mode=711"], "711 3:4"),
    ],
)
def test_options_of_a_tmpfs_win_over_the_covered_directory(runtime, full, options, found):
    assert runtime.output(full(*options)).out == f"{found}\n"


def test_a_directory_covered_by_a_tmpfs_keeps_its_mode_on_the_host(runtime, full):
    made = full("mode=1777", "uid=8")
    runtime.output(made)
    seen = (made.rootfs / "full").stat()
    assert (seen.st_mode & 0o7777, seen.st_uid, seen.st_gid) == (0o750, 3, 4)


@pytest.mark.parametrize("options", [[], ["tmpcopyup"], [LONG]])
@pytest.mark.parametrize("path", ["/new", "/new/er"])
def test_a_tmpfs_on_a_new_mount_point_has_the_kernels_default_mode(runtime, bundle, options, path):
    mount = {"destination": path, "type": "tmpfs", "options": options}
    made = bundle(f"stat -c '%a %u:%g' {path}", {"mounts": [*MOUNTS, mount]})
    assert runtime.output(made, umask=0o077).out == "1777 0:0\n"


@pytest.mark.parametrize(("mode", "status"), [(["mode=1777"], 0), ([], 1)])
def test_a_user_can_write_to_a_tmpfs_that_is_open_to_all(runtime, bundle, mode, status):
    """What `podman run --user 1000 --tmpfs /work` asks for; without the mode it is closed."""
    mount = {"destination": "/work", "type": "tmpfs", "options": ["tmpcopyup", *mode]}
    made = bundle("touch /work/new", {"mounts": [*MOUNTS, mount]})
    made.edit({"process.user": {"uid": 1000, "gid": 1000}, "process.capabilities": {}})
    (made.rootfs / "work").mkdir(mode=0o755)
    assert runtime.run(made).status == status


def test_the_owner_of_the_covered_directory_can_write_to_the_tmpfs(runtime, bundle):
    mount = {"destination": "/work", "type": "tmpfs"}
    made = bundle("touch /work/new", {"mounts": [*MOUNTS, mount]})
    made.edit({"process.user": {"uid": 1000, "gid": 1000}, "process.capabilities": {}})
    (made.rootfs / "work").mkdir(mode=0o700)
    os.chown(made.rootfs / "work", 1000, 1000)
    runtime.output(made)


def test_only_a_tmpfs_can_be_filled(runtime, bundle):
    mount = {"destination": "/full", "type": "ramfs", "options": ["tmpcopyup"]}
    made = bundle("ls /full", {"mounts": [*MOUNTS, mount]})
    (made.rootfs / "full/file").mkdir(parents=True)
    done = runtime.run(made)
    assert (done.status, done.out) == (0, "")
    assert "mounts[4].options: tmpcopyup is ignored" in done.err
