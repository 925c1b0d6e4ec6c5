"""config.md, Mounts and Root: what is mounted, where, and in which order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.bundles import MOUNTS
from tests.conformance import mountinfo

OWN_CGROUP = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "cgroup", "network")]


def also(*mounts: dict[str, object]) -> list[dict[str, object]]:
    """The usual mounts and more."""
    return [*MOUNTS, *mounts]


def seen(runtime, made) -> dict[str, mountinfo.Mounted]:
    """The mounts of a container whose script prints them."""
    return mountinfo.read(runtime.output(made).out)


# --- file systems --------------------------------------------------------------------------------


@pytest.mark.property(
    "mounts", "mounts[].source", "mounts[].destination", "mounts[].options", "mounts[].type"
)
def test_file_systems_of_every_kind_are_mounted(runtime, bundle):
    wanted = also(
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "ro"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"},
        {"destination": "/ram", "type": "ramfs"},
    )
    found = seen(runtime, bundle("cat /proc/self/mountinfo", {"mounts": wanted}))
    kinds = {point: mount.kind for point, mount in found.items()}
    assert kinds == {
        "/": kinds["/"],
        "/proc": "proc",
        "/dev": "tmpfs",
        "/dev/pts": "devpts",
        "/dev/shm": "tmpfs",
        "/sys": "sysfs",
        "/dev/mqueue": "mqueue",
        "/ram": "ramfs",
    }
    assert {"ptmxmode=666", "gid=5", "mode=620"} <= found["/dev/pts"].superblock
    assert found["/dev/shm"].source == "shm"


@pytest.mark.parametrize("kind", ["cgroup", "cgroup2"])
def test_with_a_cgroup_namespace_cgroup2_shows_the_container_at_its_root(runtime, bundle, kind):
    mount = {"destination": "/sys/fs/cgroup", "type": kind, "source": "cgroup", "options": ["ro"]}
    script = (
        "cat /proc/self/cgroup | grep ^0; cat /sys/fs/cgroup/cgroup.procs; cat /proc/self/mountinfo"
    )
    made = bundle(script, {"mounts": also(mount), "linux.namespaces": OWN_CGROUP})
    lines = runtime.output(made).lines
    assert lines[:2] == ["0::/", "1"]
    found = mountinfo.read("\n".join(line for line in lines if " - " in line))["/sys/fs/cgroup"]
    assert (found.kind, found.root) == ("cgroup2", "/")
    assert "ro" in found.options


def test_without_a_cgroup_namespace_the_containers_own_part_is_shown(runtime, bundle):
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}
    made = bundle("cat /sys/fs/cgroup/cgroup.procs; ls /sys/fs/cgroup", {"mounts": also(mount)})
    words = runtime.output(made).words
    assert words[:2] == ["1", "2"] or words[0] == "1"
    assert "cgroup.procs" in words


@pytest.mark.needs_overlay
def test_an_overlay_is_mounted(runtime, bundle, tmp_path):
    folders = {name: tmp_path / name for name in ("lower", "upper", "work")}
    for folder in folders.values():
        folder.mkdir()
    (folders["lower"] / "file").write_text("from below\n")
    options = [f"{name}dir={folder}" for name, folder in folders.items()]
    mount = {"destination": "/over", "type": "overlay", "source": "overlay", "options": options}
    made = bundle("cat /over/file; echo new >/over/made", {"mounts": also(mount)})
    assert runtime.output(made).out == "from below\n"
    assert (folders["upper"] / "made").read_text() == "new\n"
    assert not (folders["lower"] / "made").exists()


@pytest.mark.needs_overlay
def test_an_overlay_can_have_more_layers_than_one_option_can_name(runtime, bundle, tmp_path):
    layers = [tmp_path / f"layer:{number}-{'x' * 60}" for number in range(8)]
    for number, layer in enumerate(layers):
        layer.mkdir()
        (layer / str(number)).touch()
        (layer / "top").write_text(f"{number}")
    option = "lowerdir=" + ":".join(str(layer).replace(":", "\\:") for layer in layers)
    mount = {"destination": "/over", "type": "overlay", "source": "overlay", "options": [option]}
    made = bundle("ls /over; cat /over/top", {"mounts": also(mount)})
    assert runtime.output(made).words == [*"01234567", "top", "0"]


def test_tmpcopyup_copies_the_covered_files_into_the_tmpfs(runtime, bundle):
    mount = {"destination": "/full", "type": "tmpfs", "options": ["tmpcopyup", "ro", "size=1m"]}
    script = "cd /full; cat file link dir/deep; stat -c '%n %a %u:%g' . file dir; : >new"
    made = bundle(script, {"mounts": also(mount)})
    full = made.rootfs / "full"
    (full / "dir").mkdir(parents=True)
    (full / "file").write_text("1\n")
    (full / "dir/deep").write_text("2\n")
    (full / "link").symlink_to("file")
    full.chmod(0o1777)
    (full / "file").chmod(0o4711)
    os.chown(full / "dir", 3, 4)
    os.chmod(full / "file", 0o4711)
    done = runtime.run(made)
    assert done.words == [
        "1",
        "1",
        "2",
        ".",
        "1777",
        "0:0",
        "file",
        "4711",
        "0:0",
        "dir",
        "755",
        "3:4",
    ]
    assert "Read-only file system" in done.err
    assert not (full / "new").exists()


def test_a_file_system_unknown_to_the_kernel_is_named(runtime, bundle):
    mount = {"destination": "/x", "type": "nofs", "source": "x"}
    line = runtime.fails(bundle("", {"mounts": also(mount)}))
    assert "nofs is not a file system that this kernel supports" in line


def test_an_option_unknown_to_the_file_system_is_named(runtime, bundle):
    mount = {"destination": "/x", "type": "tmpfs", "options": ["sise=1"]}
    line = runtime.fails(bundle("", {"mounts": also(mount)}))
    assert "sise" in line
    assert "mount" in line


# --- destinations --------------------------------------------------------------------------------


def test_a_missing_destination_is_created_with_the_type_of_its_source(runtime, bundle, tmp_path):
    (tmp_path / "file").write_text("from the host\n")
    (tmp_path / "folder").mkdir()
    binds = [
        {"destination": f"/a/b/{name}", "source": str(tmp_path / name), "options": ["bind"]}
        for name in ("file", "folder")
    ]
    made = bundle("cat /a/b/file; stat -c %F /a/b/file /a/b/folder", {"mounts": also(*binds)})
    assert runtime.output(made).lines == ["from the host", "regular file", "directory"]


@pytest.mark.property("mounts[].destination")
def test_a_relative_destination_is_below_the_root(runtime, bundle):
    mount = {"destination": "rel/ative", "type": "tmpfs"}
    made = bundle("cat /proc/self/mountinfo", {"mounts": also(mount)})
    assert "/rel/ative" in seen(runtime, made)


@pytest.mark.property("mounts[].source")
def test_a_relative_source_is_below_the_bundle(runtime, bundle):
    mount = {"destination": "/data", "source": "data", "options": ["rbind"]}
    made = bundle("cat /data/file", {"mounts": also(mount)})
    (made.path / "data").mkdir()
    (made.path / "data/file").write_text("of the bundle\n")
    assert runtime.output(made).out == "of the bundle\n"


def test_an_absolute_symlink_in_a_destination_stays_in_the_rootfs(runtime, bundle, tmp_path):
    mount = {"destination": "/way/in", "type": "tmpfs"}
    made = bundle("cat /proc/self/mountinfo", {"mounts": also(mount)})
    (tmp_path / "outside").mkdir()
    (made.rootfs / "way").symlink_to(tmp_path / "outside")
    found = seen(runtime, made)
    assert f"{tmp_path}/outside/in" in found, "the link leads to a folder of the container"
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("destination", ["/../../../../up", "/a/../../../up", "../../up"])
def test_dots_in_a_destination_lead_no_higher_than_the_root(runtime, bundle, destination):
    made = bundle(
        "cat /proc/self/mountinfo", {"mounts": also({"destination": destination, "type": "tmpfs"})}
    )
    assert "/up" in seen(runtime, made)
    assert not Path("/up").exists()


@pytest.mark.property("mounts", "life-cycle 28")
def test_mounts_are_made_in_the_order_of_the_list(runtime, bundle, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    binds = [
        {"destination": "/same", "source": str(tmp_path / name), "options": ["bind"]}
        for name in ("one", "two")
    ]
    below = {"destination": "/same/two", "type": "tmpfs"}
    (tmp_path / "two/two").unlink()
    (tmp_path / "two/two").mkdir()
    made = bundle(
        "ls /same; grep -c ' /same' /proc/self/mountinfo", {"mounts": also(*binds, below)}
    )
    assert runtime.output(made).words == ["two", "3"]
    made.edit({"mounts": also(*reversed(binds))})
    assert runtime.output(made).words == ["one", "2"]


@pytest.mark.property("mounts[].type")
def test_a_bind_mount_is_recognized_by_its_options_not_its_type(runtime, bundle, tmp_path):
    (tmp_path / "file").write_text("x")
    mount = {
        "destination": "/f",
        "type": "ext4",
        "source": str(tmp_path / "file"),
        "options": ["bind"],
    }
    assert runtime.output(bundle("cat /f", {"mounts": also(mount)})).out == "x"


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ({"destination": "/x", "source": "/does/not/exist", "options": ["bind"]}, "/does/not/exist does not exist"),
        ({"destination": "/x"}, "mounts[4]"),
        ({"destination": "/bin/sh", "type": "tmpfs"}, "/bin/sh"),
        ({"destination": "/x", "source": "/etc", "options": ["bind", "idmap"]}, "id-mapped mount"),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_a_failed_mount_is_named(runtime, bundle, mount, words):
    line = runtime.fails(bundle("", {"mounts": also(mount)}))
    assert words in line
    assert "no such file or directory" not in line.lower()


@pytest.mark.parametrize("options", [["bind"], ["rbind", "ro"], ["bind", "remount"]])
def test_a_bind_mount_ignores_the_options_of_file_systems_with_a_warning(
    runtime, bundle, tmp_path, options
):
    (tmp_path / "file").write_text("x\n")
    bind = {"destination": "/x", "source": str(tmp_path), "options": ["bind"]}
    made = bundle("cat /x/file; cat /proc/self/mountinfo", {"mounts": also(bind)})
    mount = {**bind, "options": [*options, "mode=755,size=1k", "nosuid", "sise=1"]}
    made.edit({"mounts": also(bind, mount)})
    done = runtime.run(made)
    assert (done.status, done.lines[0]) == (0, "x")
    found = mountinfo.read("\n".join(done.lines[1:]))["/x"]
    assert "nosuid" in found.options
    assert done.err.startswith(
        "pycontain: warning: mounts[5].options: mode=755,size=1k,sise=1 is ignored: "
    )
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_a_symlinked_proc_or_sys_is_refused(runtime, bundle, tmp_path, name):
    kind = {"proc": "proc", "sys": "sysfs"}[name]
    wanted = [mount for mount in MOUNTS if mount["destination"] != "/proc"]
    made = bundle("", {"mounts": [*wanted, {"destination": f"/{name}", "type": kind}]})
    (made.rootfs / name).rmdir()
    (made.rootfs / name).symlink_to("/tmp")
    assert f"/{name} is not a directory" in runtime.fails(made)
    assert list((made.rootfs / "tmp").iterdir()) == []


# --- the root ------------------------------------------------------------------------------------


@pytest.mark.property("root", "root.readonly")
def test_a_read_only_root_is_read_only_and_its_mounts_are_not(runtime, bundle):
    made = bundle(
        "touch /x; touch /dev/x && echo made", {"root.readonly": True, "process.cwd": "/new"}
    )
    done = runtime.run(made)
    assert done.err == "touch: /x: Read-only file system\n"
    assert done.out == "made\n"


READ_ONLY = {"destination": "/fixed", "type": "tmpfs", "options": ["ro"]}
EARLY = {
    "a read-only path": {"linux.readonlyPaths": ["/fixed"]},
    "a read-only tmpfs": {"mounts": also(READ_ONLY)},
    "a recursively read-only tmpfs": {"mounts": also({**READ_ONLY, "options": ["rro"]})},
}


@pytest.mark.parametrize("what", EARLY)
def test_a_missing_cwd_is_created_before_anything_is_read_only(runtime, bundle, what):
    made = bundle("pwd; touch /fixed/x /fixed/work/y", EARLY[what])
    made.edit({"process.cwd": "/fixed/work/deep"})
    (made.rootfs / "fixed").mkdir()
    done = runtime.run(made)
    assert done.out == "/fixed/work/deep\n"
    assert done.err.count("Read-only file system") == 2


def test_a_missing_cwd_is_accessible_to_all_whatever_the_umask(runtime, bundle):
    made = bundle("stat -c %a /new /new/er", {"process.cwd": "/new/er"})
    made.edit({"process.user": {"uid": 0, "gid": 0, "umask": 0o77}})
    assert runtime.output(made, umask=0o77).words == ["755", "755"]


MADE = """
cd /; stat -c '%a %F %n' a a/b a/b/folder one one/file two two/three dev/net deep deep/er work
"""


@pytest.mark.parametrize("umask", [0o077, 0o777, 0])
@pytest.mark.parametrize("verb", ["run", "create"])
def test_created_mount_points_and_devices_ignore_the_callers_umask(
    runtime, bundle, tmp_path, umask, verb
):
    """A container's user must reach what is mounted below; the umask is a matter of the caller."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    devices = [
        {"path": path, "type": "c", "major": 1, "minor": 3} for path in ("/dev/net/x", "/deep/er/x")
    ]
    wanted = also(
        {"destination": "/a/b/folder", "source": str(tmp_path / "folder"), "options": ["bind"]},
        {"destination": "/one/file", "source": str(tmp_path / "file"), "options": ["bind"]},
        {"destination": "/two/three/four", "type": "tmpfs"},
    )
    made = bundle(MADE, {"mounts": wanted, "linux.devices": devices, "process.cwd": "/work"})
    if verb == "run":
        out = runtime.output(made, umask=umask).out
    else:
        container = runtime.create(made, umask=umask)
        runtime.ok("start", container)
        runtime.wait_for_status(container, "stopped")
        out = runtime.printed(container)
    lines = out.splitlines()
    assert [line for line in lines if not line.startswith("755 directory ")] == [
        "644 regular file one/file"  # of the host
    ]
    assert len(lines) == 11
    assert [(made.rootfs / path).stat().st_mode & 0o777 for path in ("a/b/folder", "one/file")] == [
        0o755, 0o644,
    ]  # fmt: skip


def test_writes_to_a_writable_root_reach_the_hosts_directory(runtime, bundle):
    made = bundle("echo text >/file")
    runtime.output(made)
    assert (made.rootfs / "file").read_text() == "text\n"


@pytest.mark.property("root", "root.path", "life-cycle 1")
@pytest.mark.parametrize("spelling", ["rootfs", "./rootfs/", "../{bundle}/rootfs", "{path}/rootfs"])
def test_the_root_is_relative_to_the_bundle_or_absolute(runtime, bundle, spelling):
    made = bundle("echo inside")
    made.edit({"root.path": spelling.format(bundle=made.path.name, path=made.path)})
    assert runtime.output(made).out == "inside\n"


def test_nothing_of_the_host_is_left_below_the_root(runtime, bundle):
    made = bundle("ls /; cat /proc/self/mountinfo")
    done = runtime.output(made)
    folders = [line for line in done.lines if " - " not in line]
    assert folders == ["bin", "dev", "etc", "proc", "sys", "tmp"]
    assert set(mountinfo.read("\n".join(line for line in done.lines if " - " in line))) == {
        "/", "/proc", "/dev", "/dev/pts", "/dev/shm",
    }  # fmt: skip


def test_without_pivot_the_root_is_moved(runtime, bundle):
    made = bundle("ls /; cat /proc/self/mountinfo | wc -l")
    assert runtime.output(made, "--no-pivot").words[:3] == ["bin", "dev", "etc"]
