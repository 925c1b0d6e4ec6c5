"""
A /proc that is not a proc file system.

Security labels and limits are written to files of /proc and /sys. An image, or a volume at a place
that the image chose, put other files there, or made the runtime mount them somewhere else.

CVE-2019-16884, CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2025-54867.
"""

from __future__ import annotations

import os

import pytest

from pycontain.kernel import const as c
from tests.security.attack import filesystem_at, in_a_child, mount_by_path

pytestmark = pytest.mark.needs_root


@pytest.fixture
def image(bundle):
    """A bundle whose image has links to places where nothing may be mounted."""
    made = bundle("cat /proc/self/mountinfo")
    root = made.rootfs
    (root / "link").symlink_to("proc")
    (root / "absolute").symlink_to("/proc")
    (root / "deep").symlink_to("/proc/self")
    (root / "outside").symlink_to(f"/../../../..{root}/proc")
    (root / "a").mkdir()
    (root / "a/up").symlink_to("../proc/self/attr")
    (made.path / "fake/self/attr").mkdir(parents=True)
    (made.path / "file").write_text("fake\n")
    return made


def with_mount(made, destination, **mount):
    made.edit({"mounts": [*made.config["mounts"], {"destination": destination, **mount}]})
    return made


# --- /proc and /sys as links ---------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/tmp/x", "../../../../../../tmp/x", "tmp", "/missing", "self"])
@pytest.mark.parametrize(("name", "kind"), [("proc", "proc"), ("sys", "sysfs")])
def test_a_link_where_proc_or_sys_belongs_is_refused(runtime, bundle, name, kind, target):
    made = bundle("true", {"mounts": [{"destination": f"/{name}", "type": kind, "source": kind}]})
    (made.rootfs / name).rmdir()
    (made.rootfs / "tmp/x").mkdir()
    (made.rootfs / name).symlink_to(target)
    runtime.fails(made)


@pytest.mark.control
def test_a_naive_mount_of_proc_follows_the_link(bundle, tmp_path):
    made = bundle("")
    (tmp_path / "x").mkdir()
    (made.rootfs / "proc").rmdir()
    (made.rootfs / "proc").symlink_to(tmp_path / "x")

    def run():
        mount_by_path("proc", made.rootfs / "proc")
        return filesystem_at(tmp_path / "x")

    assert in_a_child(run) == c.PROC_SUPER_MAGIC


# --- mounts in /proc -----------------------------------------------------------------------------

INSIDE = (
    "/proc/self/attr", "//proc//self//attr", "/proc/self/attr/", "proc/self/attr",
    "/proc/./self/attr", "/proc/../proc/self/attr", "/../proc/self/attr",
    "/a/../proc/self/attr", "/link/self/attr", "/absolute/self/attr", "/deep/attr", "/a/up",
    "/a/up/current/..", "/proc/sys", "/proc/1", "/proc/uptime/../sys",
)  # fmt: skip
COVERING = (
    "/proc",
    "/proc/",
    "//proc",
    "/a/../proc",
    "/link",
    "/absolute",
    "/link/",
    "/a/../absolute",
)


KINDS = {
    "a file system": {"type": "tmpfs", "source": "tmpfs"},
    "a folder of the host": {"type": "bind", "source": "fake/self/attr", "options": ["bind"]},
    "a part of the host's proc": {"type": "bind", "source": "/proc/sys", "options": ["rbind"]},
}


def rotated(destinations):
    """Each destination with one of the kinds."""
    return [(path, list(KINDS)[number % len(KINDS)]) for number, path in enumerate(destinations)]


@pytest.mark.parametrize(("destination", "kind"), rotated(INSIDE))
def test_nothing_is_mounted_inside_proc(runtime, image, destination, kind):
    assert "CVE-2019-16884" in runtime.fails(with_mount(image, destination, **KINDS[kind]))


@pytest.mark.parametrize(("destination", "kind"), rotated(COVERING))
def test_nothing_but_a_proc_covers_proc(runtime, image, destination, kind):
    assert "CVE-2019-16884" in runtime.fails(with_mount(image, destination, **KINDS[kind]))


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_of_mount_gets_inside_by_a_link(runtime, image, kind):
    assert "CVE-2019-16884" in runtime.fails(with_mount(image, "/absolute/sys", **KINDS[kind]))


@pytest.mark.parametrize("destination", COVERING)
def test_nothing_but_a_proc_takes_the_place_of_proc(runtime, image, destination):
    """Even if no proc is mounted at all."""
    image.edit({"mounts": []})
    fake = {"type": "bind", "source": "fake", "options": ["bind"]}
    assert "CVE-2019-16884" in runtime.fails(with_mount(image, destination, **fake))


def test_no_file_is_bound_over_a_file_of_proc(runtime, image):
    for destination in ("/proc/self/oom_score_adj", "/link/1/status", "/proc/version"):
        before = image.config
        file = {"type": "bind", "source": "file", "options": ["bind"]}
        assert "CVE-2019-16884" in runtime.fails(with_mount(image, destination, **file))
        image.write(before)


@pytest.mark.control
def test_a_naive_check_of_the_path_is_passed_by_a_link(image):
    """As in runc's first fix: it checks the destination's text, then calls mount(2)."""

    def run():
        mount_by_path("proc", image.rootfs / "proc")
        destination = "/link/self/attr"
        assert not os.path.normpath(destination).startswith("/proc")
        mount_by_path("tmpfs", f"{image.rootfs}{destination}")
        return filesystem_at(image.rootfs / "proc/self/attr")

    assert in_a_child(run) == c.TMPFS_MAGIC


# --- what stays allowed --------------------------------------------------------------------------


def test_lxcfs_may_replace_the_files_of_proc_that_it_serves(runtime, image):
    file = {"type": "bind", "source": "file", "options": ["bind"]}
    image.edit({"process.args": ["cat", "/proc/uptime"]})
    assert runtime.output(with_mount(image, "/proc/uptime", **file)).out == "fake\n"


def test_a_whole_proc_may_cover_proc(runtime, image):
    for mount in (
        {"type": "proc", "source": "proc"},
        {"type": "bind", "source": "/proc", "options": ["rbind"]},
    ):
        before = image.config
        assert " - proc " in runtime.output(with_mount(image, "/proc", **mount)).out
        image.write(before)


def test_a_part_of_proc_may_be_bound_elsewhere(runtime, image):
    part = {"type": "bind", "source": "/proc/sys/kernel", "options": ["bind", "ro"]}
    image.edit({"process.args": ["cat", "/a/kernel/ostype"]})
    assert runtime.output(with_mount(image, "/a/kernel", **part)).out == "Linux\n"
