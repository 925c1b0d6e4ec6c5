"""crun's options for a symlink at the source or the destination of a bind mount. crun(1)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.bundles import MOUNTS
from tests.idmap import bundle_with_user

SHOW = "readlink /etc/x; cat /etc/x; cat /proc/self/mountinfo"


@pytest.fixture
def link(tmp_path: Path) -> Path:
    """A symlink on the host to /etc/there, which is a file of the container alone."""
    made = tmp_path / "link"
    made.symlink_to("/etc/there")
    return made


@pytest.fixture(params=[False, True], ids=["root", "user namespace"])
def make(request, bundle):
    """Make a bundle whose container has /etc/there, and one bind mount."""

    def made(script: str, source: Path, *options: str, at: str = "/etc/x"):
        mount = {"destination": at, "source": str(source), "options": ["bind", *options]}
        changes = {"mounts": [*MOUNTS, mount]}
        it = bundle_with_user(bundle, script, changes) if request.param else bundle(script, changes)
        (it.rootfs / "etc/there").write_text("inside\n")
        return it

    return made


def mounted_at(text: str) -> list[str]:
    return [line.split()[4] for line in text.splitlines() if " - " in line]


@pytest.mark.property("mounts[].options")
def test_copy_symlink_creates_the_sources_link_instead_of_a_mount(runtime, make, link):
    made = make(SHOW, link, "copy-symlink", at="/etc/new/x/../../x")
    out = runtime.output(made).out
    assert out.splitlines()[:2] == ["/etc/there", "inside"]
    assert "/etc/x" not in mounted_at(out)
    assert os.readlink(made.rootfs / "etc/x") == "/etc/there"


def test_copy_symlink_accepts_the_same_link_and_nothing_else(runtime, make, link):
    made = make(SHOW, link, "copy-symlink")
    place = made.rootfs / "etc/x"
    for _ in range(2):
        assert runtime.output(made).lines[1] == "inside"
    place.unlink()
    for other in (lambda: place.symlink_to("elsewhere"), place.touch, place.mkdir):
        other()
        error = runtime.fails(made)
        assert "exists, and is not a symlink to /etc/there" in error
        assert "mounts[4], " in error
        place.rmdir() if place.is_dir() and not place.is_symlink() else place.unlink()
    assert runtime.ids() == []


def test_copy_symlink_binds_what_is_not_a_link(runtime, make, tmp_path):
    (tmp_path / "file").write_text("host\n")
    out = runtime.output(make(SHOW, tmp_path / "file", "copy-symlink")).out
    assert out.splitlines()[0] == "host"
    assert "/etc/x" in mounted_at(out)


def test_src_nofollow_binds_the_link_itself(runtime, make, link):
    """So it leads where it leads in the container; its target on the host does not even exist."""
    made = make(SHOW, link, "src-nofollow")
    out = runtime.output(made).out
    assert out.splitlines()[:2] == ["/etc/there", "inside"]
    assert "/etc/x" in mounted_at(out)
    assert not (made.rootfs / "etc/x").is_symlink()


def test_without_an_option_the_link_is_followed_on_the_host(runtime, make, link):
    assert f"{link} does not exist" in runtime.fails(make(SHOW, link))


def test_dest_nofollow_mounts_on_the_link_itself(runtime, make, tmp_path):
    (tmp_path / "file").write_text("host\n")
    script = "cat /etc/x; cat /etc/there; cat /proc/self/mountinfo"
    made = make(script, tmp_path / "file", "dest-nofollow")
    (made.rootfs / "etc/x").symlink_to("there")
    out = runtime.output(made).out
    assert out.splitlines()[:2] == ["host", "inside"]
    assert "/etc/x" in mounted_at(out)
    followed = make(script, tmp_path / "file")
    (followed.rootfs / "etc/x").symlink_to("there")
    assert runtime.output(followed).lines[:2] == ["host", "host"]


def test_dest_nofollow_creates_what_is_missing(runtime, make, tmp_path):
    (tmp_path / "file").write_text("host\n")
    assert runtime.output(make(SHOW, tmp_path / "file", "dest-nofollow")).lines[0] == "host"


def test_a_directory_cannot_cover_a_link(runtime, make, tmp_path):
    made = make(SHOW, tmp_path, "dest-nofollow")
    (made.rootfs / "etc/x").symlink_to("/tmp")
    assert "its destination /etc/x is a file, not a directory" in runtime.fails(made)


def test_a_link_can_cover_a_link(runtime, make, link):
    made = make(SHOW, link, "src-nofollow", "dest-nofollow")
    (made.rootfs / "etc/x").symlink_to("elsewhere")
    assert runtime.output(made).lines[:2] == ["/etc/there", "inside"]


@pytest.mark.parametrize("option", ["src-nofollow", "copy-symlink"])
def test_a_link_on_proc_is_refused(runtime, make, link, option):
    error = runtime.fails(make(SHOW, link, option, at="/proc/self/exe"))
    assert "/proc" in error


@pytest.mark.parametrize("option", ["src-nofollow", "copy-symlink"])
def test_the_root_cannot_be_a_link(runtime, make, link, option):
    assert "is a file, not a directory" in runtime.fails(make(SHOW, link, option, at="/"))


def test_a_hostile_parent_of_a_copied_link_stays_inside(runtime, make, link, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    made = make(SHOW, link, "copy-symlink", at="/etc/deep/x")
    (made.rootfs / "etc/deep").symlink_to(f"../../../../../../..{outside}")
    runtime.run(made)
    assert list(outside.iterdir()) == []


def test_other_mounts_ignore_the_options_with_a_warning(runtime, bundle):
    mount = {"destination": "/mnt", "type": "tmpfs", "options": ["src-nofollow", "copy-symlink"]}
    done = runtime.run(bundle("echo ran", {"mounts": [*MOUNTS, mount]}))
    assert (done.status, done.out) == (0, "ran\n")
    assert "copy-symlink,src-nofollow is ignored" in done.err


def test_features_name_them(runtime):
    named = json.loads(runtime.ok("features").out)["mountOptions"]
    assert {"copy-symlink", "src-nofollow", "dest-nofollow"} <= {*named}
