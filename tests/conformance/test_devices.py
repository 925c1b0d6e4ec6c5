"""config-linux.md: devices, default devices and links, masked and read-only paths, cgroups."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from pycontain.cgroup.place import find_mount
from tests.bundles import MOUNTS, TOKEN

NO_DEV = [mount for mount in MOUNTS if not mount["destination"].startswith("/dev")]
STAT = "stat -c '%n %F %t:%T %a %u:%g'"


@pytest.mark.property("life-cycle 31", "life-cycle 19")
def test_the_default_devices_and_links_exist(runtime, bundle):
    made = bundle(
        "cd /dev; for i in *; do " + STAT + " $i; done; for i in [fps]*; do readlink $i; done; true"
    )
    assert runtime.output(made).lines == [
        "fd symbolic link 0:0 777 0:0",
        "full character special file 1:7 666 0:0",
        "null character special file 1:3 666 0:0",
        "ptmx symbolic link 0:0 777 0:0",
        "pts directory 0:0 755 0:0",
        "random character special file 1:8 666 0:0",
        "shm directory 0:0 1777 0:0",
        "stderr symbolic link 0:0 777 0:0",
        "stdin symbolic link 0:0 777 0:0",
        "stdout symbolic link 0:0 777 0:0",
        "tty character special file 5:0 666 0:0",
        "urandom character special file 1:9 666 0:0",
        "zero character special file 1:5 666 0:0",
        "/proc/self/fd",
        "pts/ptmx",
        "/proc/self/fd/2",
        "/proc/self/fd/0",
        "/proc/self/fd/1",
    ]


def test_the_default_devices_work(runtime, bundle):
    script = """
    head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; cat /dev/null | wc -c
    echo x >/dev/null && echo written; (echo x >/dev/full) 2>/dev/null || echo full
    echo out >>/dev/stdout; echo err >>/dev/stderr; echo in | cat /dev/stdin
    """
    done = runtime.run(bundle(script))
    assert done.words == ["3", "3", "0", "written", "full", "out", "in"]
    assert done.err == "err\n"


def test_a_user_can_use_the_standard_streams_by_name(runtime, bundle):
    made = bundle(
        "echo out >>/dev/stdout; echo err >>/dev/stderr", {"process.user": {"uid": 5, "gid": 5}}
    )
    container = runtime.started(made)  # its output files are its own, unlike those of `run`
    runtime.wait_for_status(container, "stopped")
    assert runtime.printed(container) == "out\n"
    assert (runtime.folder / f"{container}.err").read_text() == "err\n"


@pytest.mark.property("linux.devices*")
def test_devices_of_the_configuration_are_created(runtime, bundle):
    devices = [
        {"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 3, "gid": 4},
        {"type": "b", "path": "/deep/er/disk", "major": 7, "minor": 300},
        {"type": "p", "path": "/dev/pipe", "fileMode": 0o600},
        {"type": "u", "path": "/dev/other", "major": 1, "minor": 3},
        {"type": "c", "path": "/dev/null", "major": 1, "minor": 3, "fileMode": 0o600},
    ]  # fmt: skip
    made = bundle(
        f"{STAT} /dev/fuse /deep/er/disk /dev/pipe /dev/other /dev/null", {"linux.devices": devices}
    )
    assert runtime.output(made).lines == [
        "/dev/fuse character special file a:e5 640 3:4",
        "/deep/er/disk block special file 7:12c 666 0:0",
        "/dev/pipe fifo 0:0 600 0:0",
        "/dev/other character special file 1:3 666 0:0",
        "/dev/null character special file 1:3 600 0:0",
    ]


def test_an_existing_device_is_left_alone(runtime, bundle):
    made = bundle(f"{STAT} /dev/null", {"mounts": NO_DEV})
    os.mknod(made.rootfs / "dev/null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    assert runtime.output(made).out == "/dev/null character special file 1:3 600 0:0\n"


@pytest.mark.property("life-cycle 31")
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("null", lambda path: path.write_text("a file")),
        ("zero", lambda path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))),
        ("full", lambda path: os.mkfifo(path)),
        ("tty", lambda path: path.symlink_to("/etc/passwd")),
        ("random", lambda path: path.mkdir()),
    ],
    ids=["file", "other number", "fifo", "symlink", "directory"],
)
def test_a_file_that_is_not_the_device_is_refused(runtime, bundle, name, make):
    made = bundle("", {"mounts": NO_DEV})
    make(made.rootfs / "dev" / name)
    assert f"/dev/{name} exists and is not the device c" in runtime.fails(made)


def test_existing_links_are_left_alone(runtime, bundle):
    made = bundle("readlink /dev/stdin", {"mounts": NO_DEV})
    (made.rootfs / "dev/stdin").symlink_to("/somewhere")
    assert runtime.output(made).out == "/somewhere\n"


def test_a_bind_mounted_dev_is_left_alone(runtime, bundle, tmp_path):
    (tmp_path / "dev").mkdir()
    mount = {"destination": "/dev", "source": str(tmp_path / "dev"), "options": ["bind"]}
    made = bundle("ls /dev | wc -l", {"mounts": [*NO_DEV, mount]})
    assert runtime.run(made).out == "0\n"


@pytest.mark.parametrize("kind", ["bind", "devtmpfs"])
def test_devices_left_out_of_the_hosts_dev_are_named(runtime, bundle, tmp_path, kind):
    (tmp_path / "dev").mkdir()
    mount = {"destination": "/dev", "source": str(tmp_path / "dev"), "options": ["bind"]}
    if kind == "devtmpfs":
        mount = {"destination": "/dev", "type": "devtmpfs"}
    made = bundle("echo ran", {"mounts": [*NO_DEV, mount], "linux.devices": [BLOCK, INSIDE]})
    done = runtime.run(made)
    assert (done.status, done.out) == (0, "ran\n")
    own, default = done.err.splitlines()
    assert own == (
        "pycontain: warning: linux.devices[1]: /dev/inside is left out: mounts[1] makes /dev the"
        " host's, where nothing is created"
    )
    for name in ("null", "zero", "full", "random", "urandom", "tty", "fd", "stdin", "stdout"):
        assert f"/dev/{name}" in default
    assert "/zz/disk" not in done.err


def test_no_device_is_left_out_of_the_containers_own_dev(runtime, bundle):
    done = runtime.run(bundle("true", {"linux.devices": [INSIDE]}))
    assert done.err == ""


BLOCK = {"type": "b", "path": "/zz/disk", "major": 7, "minor": 300}
INSIDE = {"type": "c", "path": "/dev/inside", "major": 1, "minor": 3}


def test_with_a_bind_mounted_dev_devices_elsewhere_are_created(runtime, bundle, tmp_path):
    (tmp_path / "dev").mkdir()
    mount = {"destination": "/dev/", "source": str(tmp_path / "dev"), "options": ["bind"]}
    changes = {"mounts": [*NO_DEV, mount], "linux.devices": [BLOCK, INSIDE]}
    made = bundle(f"{STAT} /zz/disk; ls -A /dev | wc -l", changes)
    assert runtime.run(made).lines == ["/zz/disk block special file 7:12c 666 0:0", "0"]
    assert list((tmp_path / "dev").iterdir()) == []


def test_a_tmpfs_over_a_bind_mounted_dev_gets_the_default_devices(runtime, bundle, tmp_path):
    (tmp_path / "dev").mkdir()
    mount = {"destination": "/dev", "source": str(tmp_path / "dev"), "options": ["bind"]}
    made = bundle("test -c /dev/null && echo there", {"mounts": [mount, *MOUNTS]})
    assert runtime.output(made).out == "there\n"
    assert list((tmp_path / "dev").iterdir()) == []


SHARED = {"linux.namespaces": [{"type": "pid"}], "mounts": [], "hostname": None}


def test_without_a_mount_namespace_devices_and_links_are_created_in_the_rootfs(runtime, bundle):
    """As without a mount on /dev: the specification requires them, and the rootfs is ours."""
    script = f"{STAT} /dev/null /dev/inside /zz/disk; readlink /dev/fd; echo >/dev/null && echo ok"
    made = bundle(script, {**SHARED, "linux.devices": [BLOCK, INSIDE]})
    assert runtime.output(made, umask=0o077).lines == [
        "/dev/null character special file 1:3 666 0:0",
        "/dev/inside character special file 1:3 666 0:0",
        "/zz/disk block special file 7:12c 666 0:0",
        "/proc/self/fd",
        "ok",
    ]


def test_without_a_mount_namespace_a_wrong_device_of_the_image_is_refused(runtime, bundle):
    made = bundle("true", SHARED)
    (made.rootfs / "dev/null").write_text("a file")
    assert "/dev/null exists and is not the device c 1:3" in runtime.fails(made)


def test_without_a_mount_namespace_a_dev_that_the_host_mounted_is_left_alone(
    runtime, bundle, tmp_path
):
    made = bundle("ls -A /dev | wc -l", SHARED)
    subprocess.run(["mount", "-t", "tmpfs", "dev", made.rootfs / "dev"], check=True)
    try:
        assert runtime.output(made).out == "0\n"
        made.edit({"linux.devices": [BLOCK, INSIDE]})
        line = runtime.fails(made)
        assert list((made.rootfs / "dev").iterdir()) == []
    finally:
        subprocess.run(["umount", made.rootfs / "dev"], check=True)
    assert "linux.devices[1] = /dev/inside would be created on the host" in line
    assert 'add {"type": "mount"} to linux.namespaces' in line


def test_another_spelling_of_a_default_device_is_that_device(runtime, bundle):
    device = {"type": "c", "path": "/dev//./null", "major": 1, "minor": 3, "fileMode": 0o600}
    made = bundle(f"{STAT} /dev/null", {"linux.devices": [device]})
    assert runtime.output(made).out == "/dev/null character special file 1:3 600 0:0\n"


def test_an_existing_device_keeps_its_owner(runtime, bundle):
    device = {"type": "c", "path": "/dev/null", "major": 1, "minor": 3, "uid": 7, "gid": 8}
    made = bundle(f"{STAT} /dev/null", {"mounts": NO_DEV, "linux.devices": [device]})
    os.mknod(made.rootfs / "dev/null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    assert runtime.output(made).out == "/dev/null character special file 1:3 600 0:0\n"


def test_devices_can_be_created_in_any_tmpfs_that_will_be_read_only(runtime, bundle):
    mount = {"destination": "/zz", "type": "tmpfs", "options": ["ro", "mode=755"]}
    changes = {"mounts": [*MOUNTS, mount], "linux.devices": [BLOCK]}
    done = runtime.run(bundle(f"{STAT} /zz/disk; touch /zz/x", changes))
    assert done.out == "/zz/disk block special file 7:12c 666 0:0\n"
    assert "Read-only file system" in done.err


def test_devices_can_be_created_in_a_dev_that_will_be_read_only(runtime, bundle):
    dev = {"destination": "/dev", "type": "tmpfs", "options": ["ro", "mode=755"]}
    made = bundle("test -c /dev/null && echo there; touch /dev/x", {"mounts": [*NO_DEV, dev]})
    done = runtime.run(made)
    assert done.out == "there\n"
    assert "Read-only file system" in done.err


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ({"type": "x", "path": "/dev/x"}, "linux.devices[0].type"),
        ({"type": "c", "path": "dev/x", "major": 1, "minor": 1}, "linux.devices[0].path"),
        ({"type": "c", "path": "/dev/x", "minor": 1}, "linux.devices[0].major"),
        ({"type": "c", "path": "/bin/sh/x", "major": 1, "minor": 1}, "/bin/sh"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_device_that_cannot_be_created_is_named(runtime, bundle, device, words):
    assert words in runtime.fails(bundle("", {"linux.devices": [device]}))


# --- the device filter ---------------------------------------------------------------------------

NODES = [
    {"type": "c", "path": "/dev/kmsg", "major": 1, "minor": 11},
    {"type": "c", "path": "/dev/port", "major": 1, "minor": 4},
]
TRY = "for i in null kmsg port; do true </dev/$i && echo $i; done; mknod /tmp/n c 1 3 && echo made"


@pytest.mark.property("linux.resources.devices*")
def test_only_allowed_devices_can_be_opened(runtime, bundle):
    rules = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"},
    ]
    made = bundle(TRY, {"linux.devices": NODES, "linux.resources.devices": rules})
    assert runtime.run(made).words == ["null", "kmsg", "made"]


@pytest.mark.property("linux.resources.devices")
def test_the_last_device_rule_that_matches_decides(runtime, bundle):
    rules = [
        {"allow": True, "access": "rwm"},
        {"allow": False, "type": "c", "major": 1, "minor": 11, "access": "rw"},
    ]
    made = bundle(TRY, {"linux.devices": NODES, "linux.resources.devices": rules})
    words = runtime.run(made).words
    assert "kmsg" not in words
    assert "null" in words


# --- masked and read-only paths ------------------------------------------------------------------


@pytest.mark.property("linux.maskedPaths")
def test_masked_files_and_directories_are_empty(runtime, bundle):
    script = f"cat /secret | wc -c; ls /vault; {STAT} /secret; (: >/vault/x) 2>&1; cat /proc/keys | wc -c"
    paths = ["/secret", "/vault", "/vault2", "/link", "/not/there", "/proc/keys", "/proc/scsi"]
    made = bundle(script, {"linux.maskedPaths": paths})
    (made.rootfs / "secret").write_text("password")
    for name in ("vault", "vault2"):
        (made.rootfs / name).mkdir()
        (made.rootfs / name / "secret").touch()
    (made.rootfs / "link").symlink_to("/etc/passwd")
    (made.rootfs / "etc/passwd").write_text("root")
    done = runtime.run(made)
    lines = done.lines
    assert lines[0] == "0"
    assert lines[1].startswith("/secret character special file 1:3 ")
    assert "can't create /vault/x" in lines[2]
    assert lines[3] == "0"
    assert (made.rootfs / "secret").read_text() == "password"


def test_a_masked_link_masks_its_target(runtime, bundle):
    made = bundle("cat /etc/shadow /link", {"linux.maskedPaths": ["/link"]})
    (made.rootfs / "etc/shadow").write_text("password")
    (made.rootfs / "link").symlink_to("/etc/shadow")
    assert runtime.output(made).out == ""


@pytest.mark.property("linux.readonlyPaths")
def test_read_only_paths_cannot_be_written_to(runtime, bundle):
    script = """
    for i in /file /dir/x /dir/sub/x /proc/sys/net/ipv4/ip_forward; do
        (echo 1 >$i) 2>&1 | grep -o 'Read-only file system'
    done
    cat /file
    """
    made = bundle(script, {"linux.readonlyPaths": ["/file", "/dir", "/not/there", "/proc/sys"]})
    (made.rootfs / "file").write_text("kept\n")
    (made.rootfs / "dir/sub").mkdir(parents=True)
    assert runtime.output(made).lines == ["Read-only file system"] * 4 + ["kept"]


def test_mounts_below_a_read_only_path_are_read_only(runtime, bundle):
    mounts = [*MOUNTS, {"destination": "/dir/sub", "type": "tmpfs"}]
    made = bundle("(: >/dir/sub/x) 2>&1", {"linux.readonlyPaths": ["/dir"], "mounts": mounts})
    done = runtime.run(made)
    assert "Read-only file system" in done.out


def test_a_path_can_be_read_only_and_masked(runtime, bundle):
    changes = {
        "linux.readonlyPaths": ["/proc/sys"],
        "linux.maskedPaths": ["/proc/sys/kernel/version"],
    }
    made = bundle("cat /proc/sys/kernel/version; cat /proc/sys/kernel/ostype", changes)
    assert runtime.output(made).words == ["Linux"]


@pytest.mark.parametrize("key", ["maskedPaths", "readonlyPaths"])
def test_a_relative_path_is_refused(runtime, bundle, key):
    assert f"linux.{key}[0]" in runtime.fails(bundle("", {f"linux.{key}": ["proc/keys"]}))


# --- cgroups -------------------------------------------------------------------------------------


def own_cgroup(pid: int | str) -> str:
    text = Path(f"/proc/{pid}/cgroup").read_text()
    return next(line[3:] for line in text.splitlines() if line.startswith("0::"))


@pytest.mark.property("linux.cgroupsPath", "life-cycle 34")
def test_an_absolute_cgroups_path_starts_at_the_mount_point(runtime, bundle):
    path = f"/{TOKEN}-parent/of/it"
    id = runtime.started(bundle("sleep 100", {"linux.cgroupsPath": path}))
    assert own_cgroup(runtime.state(id)["pid"]) == path
    runtime.ok("delete", "--force", id)
    assert not Path(find_mount(), f"{TOKEN}-parent").exists(), "removed, with its parents"


def test_without_a_path_the_cgroup_is_named_after_the_id(runtime, bundle):
    id = runtime.started(bundle("sleep 100"))
    path = own_cgroup(runtime.state(id)["pid"])
    assert path.endswith(f"/{id}")
    again = runtime.started(bundle("sleep 100", {"linux.cgroupsPath": f"{id}-x"}))
    assert own_cgroup(runtime.state(again)["pid"]) == f"{path}-x"


def test_a_new_cgroup_is_accessible_to_all_whatever_the_callers_umask(runtime, bundle):
    made = bundle("sleep 100", {"linux.cgroupsPath": f"/{TOKEN}-masked/inner"})
    runtime.create(made, umask=0o077)
    for name in ("", "inner"):
        assert Path(find_mount(), f"{TOKEN}-masked", name).stat().st_mode & 0o777 == 0o755


@pytest.mark.property("life-cycle 16")
def test_an_existing_cgroup_stays_after_its_container(runtime, bundle):
    made = Path(find_mount(), f"{TOKEN}-before")
    made.mkdir()
    try:
        runtime.output(bundle("true", {"linux.cgroupsPath": f"/{made.name}"}))
        assert made.is_dir()
        runtime.output(bundle("true", {"linux.cgroupsPath": f"/{made.name}/new"}))
        assert made.is_dir()
        assert not (made / "new").exists()
    finally:
        made.rmdir()


@pytest.mark.property("life-cycle 25")
def test_a_frozen_cgroup_is_refused(runtime, bundle):
    made = Path(find_mount(), f"{TOKEN}-frozen")
    made.mkdir()
    try:
        (made / "cgroup.freeze").write_text("1")
        line = runtime.fails(bundle("", {"linux.cgroupsPath": f"/{made.name}"}))
        assert "frozen" in line
        assert made.name in line
    finally:
        made.rmdir()


def test_a_cgroup_with_processes_is_refused(runtime, bundle):
    first = runtime.started(bundle("sleep 100"))
    path = own_cgroup(runtime.state(first)["pid"])
    assert path in runtime.fails(bundle("", {"linux.cgroupsPath": path}))
    assert runtime.state(first)["status"] == "running"


@pytest.mark.parametrize(
    ("path", "words"), [("/a/../b", "linux.cgroupsPath"), ("/", "linux.cgroupsPath")]
)
def test_a_cgroups_path_that_leads_elsewhere_is_refused(runtime, bundle, path, words):
    assert words in runtime.fails(bundle("", {"linux.cgroupsPath": path}))


def controllers() -> set[str]:
    return set(Path(find_mount(), "cgroup.controllers").read_text().split())


LIMITS = [
    ("memory", {"memory": {"limit": 1 << 25}}),
    ("cpu", {"cpu": {"shares": 100}}),
    ("cpuset", {"cpu": {"cpus": "0"}}),
    ("io", {"blockIO": {"weight": 100}}),
    ("pids", {"pids": {"limit": 10}}),
    ("rdma", {"rdma": {"mlx5_1": {"hcaHandles": 3}}}),
    ("memory", {"unified": {"memory.high": "max"}}),
]


@pytest.mark.property("linux.resources")
@pytest.mark.parametrize(("controller", "resources"), LIMITS, ids=lambda value: str(value))
def test_a_limit_whose_controller_is_missing_is_refused_by_name(
    runtime, bundle, controller, resources
):
    if controller in controllers():
        pytest.skip(f"needs a host whose cgroup v2 has no {controller}")
    line = runtime.fails(bundle("", {"linux.resources": resources}))
    assert controller in line
    assert "linux.resources" in line


def test_a_limit_whose_controller_exists_is_written(runtime, bundle):
    if "hugetlb" not in controllers():
        pytest.skip("needs the cgroup v2 controller hugetlb")
    resources = {
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}],
        "unified": {"cgroup.max.descendants": "3", "hugetlb.1GB.max": "0"},
    }
    id = runtime.started(bundle("sleep 100", {"linux.resources": resources}))
    cgroup = Path(find_mount() + own_cgroup(runtime.state(id)["pid"]))
    limits = {
        name: (cgroup / name).read_text().strip()
        for name in ("hugetlb.2MB.rsvd.max", "hugetlb.1GB.max", "cgroup.max.descendants")
    }
    assert limits == {
        "hugetlb.2MB.rsvd.max": str(4 << 20),
        "hugetlb.1GB.max": "0",
        "cgroup.max.descendants": "3",
    }


@pytest.mark.property("life-cycle 33")
def test_an_unknown_file_of_unified_is_refused(runtime, bundle):
    line = runtime.fails(bundle("", {"linux.resources": {"unified": {"cgroup.nothing": "1"}}}))
    assert "cgroup.nothing" in line


DELEGATED = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")


@pytest.mark.property("life-cycle 34")
@pytest.mark.parametrize(("options", "owner"), [(["rw"], 5), (["ro"], 0)])
def test_the_cgroup_belongs_to_the_user_only_when_it_is_writable(runtime, bundle, options, owner):
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup2", "options": options}
    listed = [{"type": kind} for kind in ("pid", "mount", "uts", "cgroup")]
    changes = {"mounts": [*MOUNTS, mount], "linux.namespaces": listed}
    made = bundle("sleep 100", {**changes, "process.user": {"uid": 5, "gid": 5}})
    id = runtime.started(made)
    cgroup = Path(find_mount() + own_cgroup(runtime.state(id)["pid"]))
    owners = {(cgroup / name).stat().st_uid for name in DELEGATED}
    assert (owners, cgroup.stat().st_uid) == ({owner}, owner)
    assert (cgroup / "cgroup.freeze").stat().st_uid == 0
