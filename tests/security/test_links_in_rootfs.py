"""
Links and `..` that lead out of the rootfs, at every place where the runtime creates something.

CVE-2019-18837, CVE-2025-24965, CVE-2026-41579: what the runtime mounted, created, removed or wrote
went through a link of the image to the host.
"""

from __future__ import annotations

import os
import shutil

import pytest

from pycontain.kernel import calls
from pycontain.kernel import const as c
from tests.security.attack import in_a_child, mount_by_path, mount_points, snapshot

pytestmark = pytest.mark.needs_root


@pytest.fixture
def outside(tmp_path):
    """A folder of the host that nobody may touch."""
    folder = tmp_path / "outside"
    for name in ("pts", "shm", "mqueue", "net", "fs/cgroup", "etc"):
        (folder / name).mkdir(parents=True)
    for name in ("ptmx", "null", "console", "resolv.conf", "marker"):
        (folder / name).write_text("marker\n")
    return folder


def links_out(outside):
    """A link to the folder in every spelling."""
    yield str(outside)
    yield f"../../../../../../../../..{outside}"
    yield f"/proc/self/root{outside}"
    yield f"/proc/1/root{outside}"


MOUNTS = [
    ("/proc", {"type": "proc", "source": "proc"}),
    ("/sys", {"type": "sysfs", "source": "sysfs"}),
    ("/dev", {"type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}),
    (
        "/dev/pts",
        {"type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
    ),
    ("/dev/shm", {"type": "tmpfs", "source": "shm"}),
    ("/dev/mqueue", {"type": "mqueue", "source": "mqueue"}),
    ("/run/secrets", {"type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}),
    ("/etc/resolv.conf", {"type": "bind", "source": "file", "options": ["bind"]}),
    ("/volume/deep/down", {"type": "bind", "source": "folder", "options": ["rbind"]}),
]


def replace(path, target):
    """Put a link where a file, a folder or nothing was."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize(("destination", "mount"), MOUNTS, ids=[path for path, _ in MOUNTS])
def test_a_mount_through_a_link_stays_inside(runtime, bundle, outside, destination, mount):
    """Refused or resolved inside: the host's files are neither changed nor shown."""
    before = snapshot(outside)
    made = bundle("cat /outside/marker /*/marker")
    (made.path / "folder").mkdir()
    (made.path / "file").touch()
    other = [] if destination.startswith("/dev") else made.config["mounts"]
    made.edit({"mounts": [*other, {"destination": destination, **mount}]})
    first = "/" + destination.split("/")[1]
    for place in {first, os.path.dirname(destination), destination} - {"/"}:
        for target in links_out(outside):
            replace(made.rootfs / place.lstrip("/"), target)
            assert "marker" not in runtime.run(made).out
            assert snapshot(outside) == before
        (made.rootfs / place.lstrip("/")).unlink()


@pytest.mark.control
def test_a_naive_mount_goes_outside(bundle, outside):
    made = bundle("")
    replace(made.rootfs / "dev", str(outside))

    def run():
        mount_by_path("tmpfs", made.rootfs / "dev/shm")
        return (outside / "shm").is_mount()

    assert in_a_child(run)


DOTS = (
    "..",
    "/..",
    "/../../../../../../../../../../tmp",
    "../..",
    "/tmp/../..",
    "/dev/shm/../../..",
    "a/../..",
)


@pytest.mark.parametrize("up", DOTS)
def test_dots_do_not_lead_out(runtime, bundle, outside, up):
    made = bundle("cat /proc/self/mountinfo")
    before = snapshot(outside)
    mount = {"type": "tmpfs", "source": "tmpfs"}
    destination = f"{up}{'/..' * 12}{outside}/shm"
    made.edit({"mounts": [*made.config["mounts"], {"destination": destination, **mount}]})
    points = [line.split(" ")[4] for line in runtime.output(made).lines]
    assert f"{outside}/shm" in points  # a path of the container's own
    assert snapshot(outside) == before


# --- devices, links and files --------------------------------------------------------------------


@pytest.mark.parametrize("spelling", range(4))
def test_devices_are_not_made_through_a_link(runtime, bundle, outside, spelling):
    """CVE-2026-41579: ptmx was removed and recreated on the host."""
    made = bundle(
        "true",
        {"linux.devices": [{"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200}]},
    )
    made.edit({"mounts": made.config["mounts"][:1]})
    replace(made.rootfs / "dev", list(links_out(outside))[spelling])
    before = snapshot(outside)
    runtime.fails(made)
    assert snapshot(outside) == before


def test_devices_are_not_made_in_a_bound_folder_that_dev_leads_to(runtime, bundle, outside):
    """The link stays inside, but what is mounted there is the host's."""
    (outside / "null").unlink()
    made = bundle("true")
    (made.rootfs / "host").mkdir()
    replace(made.rootfs / "dev", "/host")
    bind = {"destination": "/host", "type": "bind", "source": str(outside), "options": ["bind"]}
    made.edit({"mounts": [made.config["mounts"][0], bind]})
    before = snapshot(outside)
    assert "/dev" in runtime.fails(made)
    assert snapshot(outside) == before


@pytest.mark.control
def test_a_naive_ptmx_is_replaced_on_the_host(bundle, outside):
    made = bundle("")
    replace(made.rootfs / "dev", str(outside))
    os.unlink(made.rootfs / "dev/ptmx")
    os.symlink("pts/ptmx", made.rootfs / "dev/ptmx")
    assert os.readlink(outside / "ptmx") == "pts/ptmx"


WRONG = {
    "a link to a file of the host": lambda path, outside: path.symlink_to(outside / "null"),
    "a link to another device": lambda path, outside: path.symlink_to("zero"),
    "a file": lambda path, outside: path.write_text(""),
    "another device": lambda path, outside: os.mknod(path, 0o20666, os.makedev(1, 5)),
    "a block device of that number": lambda path, outside: os.mknod(
        path, 0o60666, os.makedev(1, 3)
    ),
    "a folder": lambda path, outside: path.mkdir(),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_file_of_the_image_that_is_not_the_device_is_refused(runtime, bundle, outside, what):
    made = bundle("true")
    made.edit({"mounts": made.config["mounts"][:1]})
    WRONG[what](made.rootfs / "dev/null", outside)
    before = snapshot(outside)
    assert "/dev/null" in runtime.fails(made)
    assert snapshot(outside) == before


@pytest.mark.parametrize("spelling", range(4))
def test_a_working_directory_is_made_inside(runtime, bundle, outside, spelling):
    made = bundle("pwd", {"process.cwd": "/work/new"})
    replace(made.rootfs / "work", list(links_out(outside))[spelling])
    before = snapshot(outside)
    runtime.run(made)
    assert snapshot(outside) == before


@pytest.mark.control
def test_a_naive_working_directory_is_made_outside(bundle, outside):
    made = bundle("")
    replace(made.rootfs / "work", str(outside))
    os.makedirs(os.path.join(made.rootfs, "work/new"))
    assert (outside / "new").exists()


@pytest.mark.parametrize("spelling", range(4))
def test_readonly_and_masked_paths_through_a_link_stay_inside(runtime, bundle, outside, spelling):
    paths = {"linux.maskedPaths": ["/way/null"], "linux.readonlyPaths": ["/way/shm", "/way"]}
    made = bundle("true", paths)
    replace(made.rootfs / "way", list(links_out(outside))[spelling])
    before = snapshot(outside)
    runtime.run(made)
    assert snapshot(outside) == before


def test_what_is_copied_up_is_not_read_through_links(runtime, bundle, outside):
    """tmpcopyup copies links as links; a link in place of the folder leads inside."""
    up = {"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}
    made = bundle("cat /data/*/marker /data/marker /data/file; ls /data")
    made.edit({"mounts": [*made.config["mounts"], up]})
    (made.rootfs / "data").mkdir()
    (made.rootfs / "data/folder").symlink_to(outside)
    (made.rootfs / "data/file").symlink_to(outside / "marker")
    done = runtime.run(made)
    assert "marker\n" not in done.out
    assert done.words == ["file", "folder"]


@pytest.mark.control
def test_a_naive_copy_reads_through_links(bundle, outside, tmp_path):
    made = bundle("")
    (made.rootfs / "data").mkdir()
    (made.rootfs / "data/folder").symlink_to(outside)
    shutil.copytree(made.rootfs / "data", tmp_path / "copy")
    assert (tmp_path / "copy/folder/marker").read_text() == "marker\n"


# --- every file that is created ------------------------------------------------------------------

CREATES = {
    "process.cwd": "/work/new",
    "process.terminal": True,
    "linux.devices": [{"path": "/device/own", "type": "c", "major": 1, "minor": 3}],
    "linux.namespaces": [{"type": kind} for kind in ("pid", "uts", "mount")],
}
CREATED = {
    "dev/null",
    "dev/console",
    "dev/ptmx",
    "dev/stdin",
    "device/own",
    "file/bound",
    "work/new",
}


def creating(bundle):
    """A bundle without a /dev of its own: whatever the runtime creates is in the image."""
    made = bundle("true", CREATES)
    (made.path / "file").touch()
    binding = {"destination": "/file/bound", "type": "bind", "source": "file", "options": ["bind"]}
    folder = {"destination": "/folder/new", "type": "tmpfs", "source": "tmpfs"}
    terminals = {"destination": "/dev/pts", "type": "devpts", "options": ["newinstance"]}
    made.edit({"mounts": [made.config["mounts"][0], terminals, binding, folder]})
    return made


def content(rootfs):
    """The paths of everything in an image."""
    return {str(path.relative_to(rootfs)) for path in rootfs.rglob("*")}


@pytest.mark.parametrize("target", ["marker", "new"])
def test_no_file_is_written_through_a_link(runtime, bundle, outside, terminal, target):
    """CVE-2025-24965. Every place is tried, and a link to a file that exists or does not."""
    made = creating(bundle)
    before = content(made.rootfs)
    assert runtime.run(made, stdin=terminal).status == 0
    created = content(made.rootfs) - before
    assert created >= CREATED
    untouched = snapshot(outside)
    for path in sorted(created):
        other = creating(bundle)
        replace(other.rootfs / path, str(outside / target))
        runtime.run(other, stdin=terminal)
        assert snapshot(outside) == untouched, path


@pytest.mark.control
@pytest.mark.parametrize("target", ["marker", "new"])
def test_a_naive_file_is_written_through_a_link(bundle, outside, target):
    """As crun wrote the settings of a virtual machine."""
    made = bundle("")
    before = snapshot(outside)
    replace(made.rootfs / ".settings.json", str(outside / target))
    (made.rootfs / ".settings.json").write_text("{}")
    assert snapshot(outside) != before


# --- the path of the rootfs itself ---------------------------------------------------------------


@pytest.fixture
def behind_a_link(runtime, bundle, tmp_path):
    """A bundle whose rootfs is a link into a shared mount."""
    made = bundle("true", {"linux.rootfsPropagation": "shared"})
    real = tmp_path / "real"
    real.mkdir()
    mount_by_path("tmpfs", real)
    shutil.copytree(made.rootfs, real / "rootfs", symlinks=True)
    shutil.rmtree(made.rootfs)
    made.rootfs.symlink_to(real / "rootfs")
    yield made, str(real)
    calls.umount2(str(real), c.MNT_DETACH)


def test_with_a_shared_root_no_mount_gets_out_of_the_rootfs(runtime, behind_a_link):
    """The mount that holds the rootfs must be private, whatever link leads there."""
    made, real = behind_a_link
    container = runtime.create(made)
    assert [point for point in mount_points() if point.startswith(real)] == [real]
    runtime.ok("delete", "--force", container)


@pytest.mark.control
def test_a_naive_way_up_from_the_link_ends_at_another_mount(behind_a_link):
    made, real = behind_a_link
    path = made.rootfs
    while not os.path.ismount(path):
        path = path.parent
    assert str(path) != real
