"""
A bind mount onto "/" becomes the root: what comes after it in the list lands in it.

The rootfs and what was mounted in it are gone, not covered: covered mounts would be the root of
those who enter the mount namespace later, or visible enough to mount another proc (tests/security).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.bundles import MOUNTS, fill_rootfs
from tests.conformance import mountinfo

SPELLINGS = ["/", "/.", "/a/..", "//", ".", "../..", ""]
LATE = {"destination": "/late", "type": "tmpfs", "options": ["mode=700"]}


@pytest.fixture
def other(tmp_path, shared_mounts) -> Path:
    """A directory of the host, with busybox, on a shared mount with a mount below it."""
    top = tmp_path / "other"
    top.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "other", top], check=True)
    fill_rootfs(top)
    (top / "which").write_text("other\n")
    (top / "sub").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "sub", top / "sub"], check=True)
    yield top
    subprocess.run(["umount", "--recursive", top], check=True)


@pytest.fixture
def bound(runtime, bundle, other):
    """Makes a bundle whose root is that directory, by a bind mount before the usual mounts."""

    def make(script, *options, at="/", before=(), changes=None):
        made = bundle(script, changes)
        bind = {"destination": at, "source": str(other), "options": ["rbind", *options]}
        made.edit({"mounts": [*before, bind, *MOUNTS, LATE]})
        (made.rootfs / "which").write_text("rootfs\n")
        return made

    return make


@pytest.mark.parametrize("at", [spelling for spelling in SPELLINGS if spelling])
def test_a_bind_mount_on_the_root_becomes_the_root_of_later_mounts(runtime, bound, other, at):
    made = bound("cat /which; touch /new; cat /proc/self/mountinfo", at=at)
    which, *lines = runtime.output(made).lines
    found = mountinfo.read("\n".join(lines))
    assert which == "other"
    assert (found["/"].source, found["/"].kind) == ("other", "tmpfs")
    assert sorted(found) == ["/", "/dev", "/dev/pts", "/dev/shm", "/late", "/proc", "/sub"]
    assert len(lines) == len(found), "nothing is covered"
    assert (other / "new").exists()
    assert (other / "late").is_dir()
    assert not (made.rootfs / "late").exists()


def test_a_root_bound_without_rbind_has_no_submounts(runtime, bound):
    made = bound("ls /; cat /proc/self/mountinfo")
    bind = made.config["mounts"][0]
    made.edit({"mounts": [{**bind, "options": ["bind"]}, *MOUNTS]})
    assert "/sub " not in runtime.output(made).out


def test_mounts_before_the_bound_root_are_gone(runtime, bound):
    early = [{"destination": f"/{name}", "type": "tmpfs", "options": ["ro"]} for name in "ab"]
    made = bound("cat /proc/self/mountinfo", before=[*MOUNTS, *early])
    lines = runtime.output(made).lines
    points = [line.split(" ")[4] for line in lines]
    assert sorted(points) == ["/", "/dev", "/dev/pts", "/dev/shm", "/late", "/proc", "/sub"]


def test_the_last_of_two_bind_mounts_on_the_root_is_the_root(runtime, bound, tmp_path):
    (tmp_path / "first").mkdir()
    first = {"destination": "/", "source": str(tmp_path / "first"), "options": ["rbind", "ro"]}
    made = bound("cat /which; touch /late/x /x && echo written", before=[first])
    assert runtime.output(made).words == ["other", "written"]
    assert list((tmp_path / "first").iterdir()) == []


def test_exec_has_the_bound_root(runtime, bound):
    container = runtime.started(bound("sleep 100", before=MOUNTS))
    assert runtime.ok("exec", container, "cat", "/which").out == "other\n"
    pid = runtime.state(container)["pid"]
    assert Path(f"/proc/{pid}/root/which").read_text() == "other\n"


READ_ONLY = {
    "by its own option": ((["ro"]), {}),
    "by root.readonly": ([], {"root.readonly": True}),
    "by both": (["ro"], {"root.readonly": True}),
    "by a read-only path": ([], {"linux.readonlyPaths": ["/"]}),
}


@pytest.mark.parametrize("why", READ_ONLY)
def test_a_bound_root_becomes_read_only_after_everything_is_created_in_it(
    runtime, bound, other, why
):
    options, changes = READ_ONLY[why]
    made = bound("touch /late/x /sub/x; touch /x", *options, changes=changes)
    made.edit({"process.cwd": "/work"})
    done = runtime.run(made)
    assert done.err == "touch: /x: Read-only file system\n"
    assert (other / "work").is_dir()
    (other / "y").touch()


def test_a_bound_root_has_the_attributes_of_its_options(runtime, bound):
    made = bound("cat /proc/self/mountinfo", "nosuid", "nodev")
    found = mountinfo.read(runtime.output(made).out)
    assert {"nosuid", "nodev", "rw"} <= found["/"].options
    assert "nosuid" not in found["/sub"].options


def test_masked_and_read_only_paths_are_in_the_bound_root(runtime, bound, other):
    changes = {"linux.maskedPaths": ["/secret", "/sub"], "linux.readonlyPaths": ["/fixed"]}
    (other / "secret").write_text("secret\n")
    (other / "sub/secret").write_text("secret\n")
    (other / "fixed").mkdir()
    made = bound("cat /secret; ls /sub; touch /fixed/x", changes=changes, before=MOUNTS)
    done = runtime.run(made)
    assert done.out == ""
    assert "Read-only file system" in done.err


@pytest.mark.parametrize("flag", [(), ("--no-pivot",)])
def test_a_bound_root_has_no_way_to_the_rootfs_or_the_host(runtime, bound, flag):
    up = "cd /; for n in 1 2 3 4 5 6 7 8; do cd ..; done; cat which; ls /"
    done = runtime.output(bound(up, before=MOUNTS), *flag)
    assert done.words == [
        "other", "bin", "dev", "etc", "late", "proc", "sub", "sys", "tmp", "which",
    ]  # fmt: skip


ROOTS = [
    ([], None, {"master"}),
    (["rprivate"], None, set()),
    (["rslave"], None, {"master"}),
    (["rshared"], None, {"master", "shared"}),
    (["unbindable"], None, {"unbindable"}),
    ([], "shared", {"master", "shared"}),
    (["rslave"], "rshared", {"master", "shared"}),
    (["rshared"], "private", set()),
    ([], "runbindable", {"unbindable"}),
]


@pytest.mark.parametrize(("options", "root", "found"), ROOTS)
def test_a_bound_root_has_the_propagation_of_rootfsPropagation_or_its_own(
    runtime, bound, options, root, found
):
    """rootfsPropagation is the root's; where it is unset, the mount's options hold."""
    changes = {"linux.rootfsPropagation": root} if root else {}
    made = bound("cat /proc/self/mountinfo", *options, changes=changes)
    made.edit({"linux.readonlyPaths": ["/bin"]})
    assert mountinfo.read(runtime.output(made).out)["/"].propagation == found


@pytest.mark.parametrize("propagation", ["shared", "rshared", "slave", "private"])
def test_a_bound_root_unmounts_nothing_on_the_host(runtime, bound, other, propagation):
    """The rootfs that goes has shared mounts of the host in it."""
    made = bound("echo inside", before=MOUNTS, changes={"linux.rootfsPropagation": propagation})
    for name in ("in", "in/deep"):
        (made.rootfs / name).mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "in", made.rootfs / name], check=True)
    before = Path("/proc/self/mountinfo").read_text()
    assert runtime.output(made).out == "inside\n"
    after = Path("/proc/self/mountinfo").read_text()
    subprocess.run(["umount", "--recursive", made.rootfs / "in"], check=True)
    assert after == before


def test_hooks_find_the_bound_root_where_the_rootfs_was(runtime, bound, other):
    made = bound("cat /hooked")
    hook = made.script("hook", f"cat {made.rootfs}/which > {made.rootfs}/hooked")
    made.edit({"hooks.createContainer": [{"path": str(hook), "env": ["PATH=/bin"]}]})
    assert runtime.output(made).out == "other\n"


def test_only_a_bind_mount_becomes_the_root(runtime, bound):
    made = bound("true")
    for mount in ({"type": "tmpfs"}, {"options": ["remount", "bind", "ro"]}):
        made.edit({"mounts": [*MOUNTS, {"destination": "/", **mount}]})
        assert "mounts[4].destination = / is the root itself" in runtime.fails(made)


def test_a_mount_on_a_link_to_the_root_is_refused(runtime, bundle, other):
    """The image chose that, not the configuration."""
    bind = {"destination": "/data", "source": str(other), "options": ["rbind"]}
    made = bundle("true")
    (made.rootfs / "data").symlink_to("/")
    for mount in (bind, {"destination": "/data", "type": "tmpfs"}):
        made.edit({"mounts": [*MOUNTS, mount]})
        line = runtime.fails(made)
        assert "mounts[4], " in line
        assert "/data leads to the root itself" in line


def test_a_directory_of_the_rootfs_can_become_the_root(runtime, bundle):
    made = bundle("cat /which; ls / | grep -c inner")
    shutil.copytree(made.rootfs, made.path / "copy", symlinks=True)
    (made.path / "copy").rename(made.rootfs / "inner")
    (made.rootfs / "inner/which").write_text("inner\n")
    bind = {"destination": "/", "source": "rootfs/inner", "options": ["bind"]}
    made.edit({"mounts": [*MOUNTS, bind, *MOUNTS]})
    done = runtime.run(made)
    assert done.words == ["inner", "0"]
    assert not os.path.ismount(made.rootfs)
