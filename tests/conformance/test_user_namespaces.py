"""config-linux.md, User namespace mappings: new and joined user namespaces, and what is in them."""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontain.cgroup.place import find_mount
from tests.bundles import MOUNTS, busybox
from tests.idmap import (
    FIRST,
    MAPPING,
    NAMESPACES,
    SIZE,
    Mapped,
    bundle_with_user,
    give,
)

pytestmark = pytest.mark.needs_userns

SYSFS = {"destination": "/sys", "type": "sysfs", "options": ["ro", "nosuid", "nodev", "noexec"]}
MQUEUE = {"destination": "/dev/mqueue", "type": "mqueue"}
CGROUP = {"destination": "/sys/fs/cgroup", "type": "cgroup"}
STAT = "stat -c '%n %F %t:%T %a %u:%g'"
EVERY_CAPABILITY = f"{(1 << int(Path('/proc/sys/kernel/cap_last_cap').read_text()) + 1) - 1:016x}"


@pytest.fixture
def mapped(bundle) -> Mapped:
    return lambda script="", changes=None: bundle_with_user(bundle, script, changes)


def link(pid: int | str, name: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{name}")


# --- the namespace and its owner -----------------------------------------------------------------


@pytest.mark.property("linux.uidMappings*", "linux.gidMappings*")
def test_ids_are_mapped_as_listed_and_the_containers_root_is_not_the_hosts(runtime, mapped):
    made = mapped("id; cat /proc/self/uid_map /proc/self/gid_map; sleep 100")
    id = runtime.started(made)
    runtime.wait_for_text(id, "gid=0")
    status = Path(f"/proc/{runtime.state(id)['pid']}/status").read_text()
    assert f"Uid:\t{FIRST}\t{FIRST}\t{FIRST}\t{FIRST}\nGid:\t{FIRST}\t" in status
    runtime.wait_for_text(id, f"{SIZE}\n         0")
    first, *maps = runtime.printed(id).splitlines()
    assert first == "uid=0 gid=0"
    assert [line.split() for line in maps] == [["0", str(FIRST), str(SIZE)]] * 2


@pytest.mark.property("linux.uidMappings*", "linux.gidMappings*")
def test_several_mappings_apply_to_a_user_that_is_not_root(runtime, mapped):
    mappings = [
        MAPPING | {"size": 1000},
        {"containerID": 1000, "hostID": 12345, "size": 1},
        {"containerID": 1001, "hostID": FIRST + 1001, "size": 10},
    ]
    user = {"uid": 1000, "gid": 1001, "additionalGids": [5, 1000]}
    changes = {"linux.uidMappings": mappings, "linux.gidMappings": mappings, "process.user": user}
    made = mapped("id; sleep 100", changes)
    id = runtime.started(made)
    runtime.wait_for_text(id, "uid=1000 gid=1001 groups=1000,5")  # sorted by the host's ids
    status = Path(f"/proc/{runtime.state(id)['pid']}/status").read_text()
    assert "Uid:\t12345\t" in status
    assert f"Gid:\t{FIRST + 1001}\t" in status
    assert f"Groups:\t12345 {FIRST + 5}" in status


def test_all_new_namespaces_belong_to_the_user_namespace(runtime, mapped):
    """Otherwise its root could not change them: the host's root would own them."""
    script = """
    hostname other && hostname; ip link set lo down && echo down; mount -t tmpfs x /tmp && echo tmp
    mkdir /tmp/c && mount -t cgroup2 x /tmp/c && echo cgroup; mount -t proc x /tmp/c && echo proc
    sysctl -w kernel.shmmni=77
    """
    capabilities = dict.fromkeys(
        ("bounding", "effective", "permitted"),
        ["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_RESOURCE"],
    )
    made = mapped(script, {"process.capabilities": capabilities})
    assert runtime.output(made).lines == [
        "other", "down", "tmp", "cgroup", "proc", "kernel.shmmni = 77"
    ]  # fmt: skip


def test_a_process_can_have_all_capabilities_in_its_user_namespace(runtime, mapped):
    from pycontain.spec.names import CAPABILITIES

    sets = dict.fromkeys(("bounding", "effective", "permitted", "inheritable"), list(CAPABILITIES))
    made = mapped("grep Cap /proc/self/status", {"process.capabilities": sets})
    assert set(runtime.output(made).words[1:-2:2]) == {EVERY_CAPABILITY}


def test_every_type_of_namespace_can_be_new_with_a_user_namespace(runtime, mapped):
    listed = [*NAMESPACES, {"type": "time"}]
    script = "for n in pid net ipc uts mnt cgroup user time; do readlink /proc/self/ns/$n; done"
    made = mapped(script, {"linux.namespaces": listed})
    found = dict(word.split(":") for word in runtime.output(made).words)
    assert all(f"{name}:{number}" != link("self", name) for name, number in found.items())
    assert len(found) == 8


# --- the file system -----------------------------------------------------------------------------


def test_the_default_devices_are_the_containers_own_and_work(runtime, mapped):
    script = f"""
    cd /dev; for i in full null random tty urandom zero; do {STAT} $i; done
    head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; echo x >/dev/null && echo written
    (echo x >/dev/full) 2>/dev/null || echo full; chmod 600 /dev/null && chown 7 /dev/null
    {STAT} null
    """
    before = os.stat("/dev/null")
    lines = runtime.output(mapped(script)).lines
    numbers = {"full": "1:7", "null": "1:3", "random": "1:8", "tty": "5:0", "urandom": "1:9"}
    for name, number in (numbers | {"zero": "1:5"}).items():
        assert f"{name} character special file {number} 666 0:0" in lines
    assert lines[6:] == ["3", "3", "written", "full", "null character special file 1:3 600 7:0"]
    after = os.stat("/dev/null")
    assert (before.st_mode, before.st_uid) == (after.st_mode, after.st_uid)


def test_other_devices_have_the_requested_owner_and_mode(runtime, mapped):
    devices = [
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3},
        {"path": "/srv/deep/fifo", "type": "p", "fileMode": 0o620, "gid": 9},
    ]
    made = mapped(f"{STAT} /dev/mine /srv/deep/fifo; head -c 1 /dev/mine | wc -c",
                  {"linux.devices": devices})  # fmt: skip
    assert runtime.output(made).lines == [
        "/dev/mine character special file 1:5 640 3:0", "/srv/deep/fifo fifo 0:0 620 0:9", "1"
    ]  # fmt: skip


def test_devices_can_be_bound_on_what_an_earlier_container_has_left(runtime, mapped):
    mounts = [mount for mount in MOUNTS if not mount["destination"].startswith("/dev")]
    made = mapped(f"echo x >/dev/null; {STAT} /dev/null", {"mounts": mounts})
    for _ in range(2):
        assert runtime.output(made).out == "/dev/null character special file 1:3 666 0:0\n"
    assert (made.rootfs / "dev/null").is_file()


def test_a_link_in_place_of_a_device_is_refused(runtime, mapped):
    mounts = [mount for mount in MOUNTS if not mount["destination"].startswith("/dev")]
    made = mapped("", {"mounts": mounts})
    (made.rootfs / "dev/null").symlink_to("/etc/null")
    assert "exists and is not the device c 1:3" in runtime.fails(made)


def test_no_device_file_is_left_in_the_state_directory(runtime, mapped):
    id = runtime.create(mapped("sleep 100"))
    assert not [name for name in os.listdir(runtime.root / id) if name.startswith("device")]


def test_the_kernels_file_systems_can_be_mounted_and_their_paths_protected(runtime, mapped):
    script = """
    ls /sys/class/net; cat /sys/fs/cgroup/cgroup.type; cat /proc/keys | wc -c; ls /sys/firmware
    echo 1 2>/dev/null >/proc/sys/kernel/shmmni || echo read-only; ls -d /dev/mqueue
    awk '$5 == "/dev/shm" {print $6}' /proc/self/mountinfo
    """
    changes = {
        "mounts": [*MOUNTS, SYSFS, MQUEUE, CGROUP],
        "linux.maskedPaths": ["/proc/keys", "/sys/firmware"],
        "linux.readonlyPaths": ["/proc/sys"],
    }
    lines = runtime.output(mapped(script, changes)).lines
    assert lines == [
        "lo", "domain", "0", "read-only", "/dev/mqueue", "rw,nosuid,nodev,noexec,relatime"
    ]  # fmt: skip


def test_the_terminal_belongs_to_the_user_and_the_group_of_terminals(runtime, mapped):
    script = "tty; stat -c '%u:%g %a' $(tty) /dev/console; echo x >/dev/console"
    made = mapped(script, {"process.terminal": True, "process.user": {"uid": 7, "gid": 7}})
    command = ["script", "-qec", shlex.join(runtime.command("run", "-b", made.path, "t"))]
    done = subprocess.run([*command, "/dev/null"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["/dev/pts/0", "7:5", "620", "7:5", "620", "x"]


def test_a_rootfs_that_only_the_mapped_root_can_reach_is_used(runtime, mapped):
    made = mapped("echo content >/file; cat /file")
    private = made.path / "private"
    private.mkdir(mode=0o700)
    made.rootfs.rename(private / "rootfs")
    give(private)
    made.edit({"root": {"path": "private/rootfs"}})
    assert runtime.output(made).out == "content\n"


def test_a_rootfs_and_sources_that_only_the_hosts_root_can_reach_are_used(
    runtime, mapped, tmp_path
):
    source = tmp_path / "secret/source"
    source.mkdir(parents=True)
    (source / "file").write_text("bound")
    (tmp_path / "secret").chmod(0o700)
    bind = {"destination": "/data", "source": str(source), "options": ["rbind", "ro"]}
    made = mapped("cat /data/file; echo x 2>/dev/null >/data/file || echo ' ro'",
                  {"mounts": [*MOUNTS, bind]})  # fmt: skip
    made.path.chmod(0o700)
    assert runtime.output(made).out == "bound ro\n"


def test_a_missing_source_is_named(runtime, mapped):
    bind = {"destination": "/data", "source": "/does/not/exist", "options": ["bind"]}
    line = runtime.fails(mapped("", {"mounts": [*MOUNTS, bind]}))
    assert "bind: mounts[4], /does/not/exist on /data" in line
    assert "does not exist" in line


def test_a_tmpfs_has_the_requested_size_and_the_owner_of_what_it_covers(runtime, mapped):
    tmpfs = {"destination": "/work", "type": "tmpfs", "options": ["size=1m"]}
    script = "stat -c '%u:%g %a' /work; df -k /work | awk 'NR == 2 {print $2}'"
    made = mapped(script, {"mounts": [*MOUNTS, tmpfs]})
    work = made.rootfs / "work"
    work.mkdir(mode=0o711)
    os.chown(work, FIRST + 3, FIRST + 4)
    assert runtime.output(made).words == ["3:4", "711", "1024"]
    for key in ("uidMappings", "gidMappings"):
        made.edit({f"linux.{key}[0].size": 1000})
    os.chown(work, FIRST + 2000, FIRST + 2000)  # of which nobody inside can be the owner
    assert runtime.output(made).words == ["0:0", "711", "1024"]


def test_tmpcopyup_keeps_owners(runtime, mapped):
    tmpfs = {"destination": "/work", "type": "tmpfs", "options": ["tmpcopyup"]}
    made = mapped("stat -c '%n %u:%g' /work/*", {"mounts": [*MOUNTS, tmpfs]})
    (made.rootfs / "work").mkdir()
    for name, id in (("a", FIRST), ("b", FIRST + 8)):
        (made.rootfs / "work" / name).touch()
        os.chown(made.rootfs / "work" / name, id, id)
    assert runtime.output(made).lines == ["/work/a 0:0", "/work/b 8:8"]


@pytest.fixture
def hosts_flags(tmp_path) -> Iterator[Path]:
    """A mount of the host with restrictions."""
    folder = tmp_path / "restricted"
    folder.mkdir()
    options = "ro,nosuid,nodev,noexec,noatime"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "x", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_restrictions_of_a_bound_mount_are_kept_and_locked(runtime, mapped, hosts_flags):
    bind = {"destination": "/data", "source": str(hosts_flags), "options": ["bind"]}
    script = """
    awk '$5 == "/data" {print $6}' /proc/self/mountinfo
    mount -o remount,bind,rw /data 2>/dev/null || echo locked
    """
    made = mapped(script, {"mounts": [*MOUNTS, bind]})
    assert runtime.output(made).words == ["ro,nosuid,nodev,noexec,noatime", "locked"]


@pytest.mark.parametrize(
    "kind", ["net.ipv4.ip_forward", "kernel.msgmax", "user.max_ipc_namespaces"]
)
def test_a_sysctl_of_the_containers_namespaces_is_set(runtime, mapped, kind):
    made = mapped(f"sysctl -n {kind}", {"linux.sysctl": {kind: "1"}})
    assert runtime.output(made).out == "1\n"


def test_the_domain_name_can_be_set_by_its_sysctl(runtime, mapped):
    made = mapped("sysctl -n kernel.domainname", {"linux.sysctl": {"kernel.domainname": "there"}})
    assert runtime.output(made).out == "there\n"


def test_a_sysctl_is_set_although_the_pid_namespace_is_the_hosts(runtime, mapped):
    listed = [entry for entry in NAMESPACES if entry["type"] != "pid"]
    mounts = [mount for mount in MOUNTS if mount["type"] != "proc"]
    proc = {"destination": "/proc", "source": "/proc", "options": ["rbind"]}
    changes = {
        "linux.namespaces": listed, "mounts": [proc, *mounts],
        "linux.sysctl": {"net.ipv4.ping_group_range": "0 0"},
    }  # fmt: skip
    made = mapped("cat /proc/sys/net/ipv4/ping_group_range", changes)
    assert runtime.output(made).words == ["0", "0"]


# --- the process ---------------------------------------------------------------------------------


def test_standard_streams_can_be_opened_by_name(runtime, mapped):
    made = mapped("echo err >>/dev/stderr; echo out >>/dev/stdout", {"process.user.uid": 5})
    id = runtime.started(made)  # its output files are its own, unlike those of `run`
    runtime.wait_for_text(id, "out")
    done = subprocess.run(runtime.command("run", "-b", made.path, "x"), check=True,
                          capture_output=True)  # fmt: skip
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_limits_and_oom_score_are_set_in_a_user_namespace(runtime, mapped):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.prlimit(0, resource.RLIMIT_NOFILE, (min(soft, hard), hard))
    changes = {
        "process.rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": 99, "hard": 100},
            {"type": "RLIMIT_NPROC", "soft": 500, "hard": 600},
        ],
        "process.oomScoreAdj": 77,
    }
    made = mapped("ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj", changes)
    assert runtime.output(made).words == ["99", "100", "77"]


def test_a_hard_limit_is_raised_by_the_hosts_root(runtime, mapped):
    """The container's root has CAP_SYS_RESOURCE in its namespace, which raises none."""
    limit = {"type": "RLIMIT_MSGQUEUE", "soft": 1 << 40, "hard": 1 << 40}
    made = mapped("grep 'Max msgqueue' /proc/self/limits", {"process.rlimits": [limit]})
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    if effective >> 24 & 1:  # CAP_SYS_RESOURCE
        assert runtime.output(made).words[3:5] == [str(1 << 40)] * 2
    else:
        assert runtime.fails(made).startswith("pycontain: hard limits: prlimit: process.rlimits[0]")


def test_scheduling_that_only_the_hosts_root_may_set_is_set(runtime, mapped):
    changes = {
        "process.scheduler": {"policy": "SCHED_OTHER", "nice": -5},
        "process.ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": 3},
    }
    made = mapped("cut -d ' ' -f 19 /proc/self/stat; ionice -p $$", changes)
    assert runtime.output(made).lines == ["-5", "realtime: prio 3"]
    id = runtime.started(mapped("sleep 100"))
    process = {**made.config["process"], "args": ["ionice", "-p", "0"]}
    (made.path / "process.json").write_text(json.dumps(process))
    done = runtime.ok("exec", "--process", made.path / "process.json", id)
    assert done.out == "realtime: prio 3\n"


@pytest.mark.parametrize("process", [{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 100}])
def test_exec_has_the_limits_that_it_requests(runtime, mapped, process):
    id = runtime.started(mapped("sleep 100"))
    made = mapped("ulimit -n; ulimit -Hn", {"process.rlimits": [process]})
    (made.path / "process.json").write_text(json.dumps(made.config["process"]))
    done = runtime.ok("exec", "--process", made.path / "process.json", id)
    assert done.words == ["99", "100"]


@pytest.mark.needs_cgroup2
def test_the_cgroup_belongs_to_the_containers_user(runtime, mapped):
    made = mapped("mkdir /sys/fs/cgroup/inner && sleep 100", {"mounts": [*MOUNTS, SYSFS, CGROUP]})
    id = runtime.started(made)
    path = Path(f"/proc/{runtime.state(id)['pid']}/cgroup").read_text().split(":")[-1].strip()
    assert os.stat(find_mount() + path).st_uid == FIRST


def test_a_cgroup_that_belongs_to_the_containers_user_can_be_divided(runtime, mapped):
    script = (
        "cd /sys/fs/cgroup && mkdir inner && echo 0 >inner/cgroup.procs && cat /proc/self/cgroup"
    )
    made = mapped(script + " | tail -n 1", {"mounts": [*MOUNTS, SYSFS, CGROUP]})
    assert runtime.output(made).out.endswith("::/inner\n")


def test_a_filter_is_loaded_with_and_without_no_new_privileges(runtime, mapped):
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
    }
    for privileges in (True, False):
        changes = {"linux.seccomp": profile, "process.noNewPrivileges": privileges}
        done = runtime.run(mapped("mkdir /x", changes))
        assert "Not supported" in done.err or "not supported" in done.err


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody can reach, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="pycontain-test.") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def test_hooks_run_where_the_specification_says(runtime, mapped, public):
    made = mapped("true")
    hook = shutil.move(
        made.script("hook", "read ns </proc/self/uid_map; echo $1 $ns >>out"), public
    )
    (public / "out").touch()
    (public / "out").chmod(0o666)
    kinds = ("createRuntime", "createContainer", "poststart")
    script = f"cd {public}; . {hook}"
    hooks = {
        kind: [{"path": busybox(), "args": ["sh", "-c", script, "hook", kind]}] for kind in kinds
    }
    made.edit({"hooks": hooks})
    runtime.output(made)
    lines = [line.split() for line in (public / "out").read_text().splitlines()]
    assert [line[0] for line in lines] == list(kinds)
    assert lines[0][2] == lines[2][2] == "0"
    assert lines[1][1:] == ["0", str(FIRST), str(SIZE)]


def test_a_user_namespace_works_with_chroot_instead_of_pivot_root(runtime, mapped):
    assert runtime.output(mapped("ls /bin/sh"), "--no-pivot").out == "/bin/sh\n"


@pytest.mark.parametrize("propagation", ["shared", "rprivate", "runbindable"])
def test_nothing_propagates_to_the_host(runtime, mapped, propagation):
    changes = {"linux.rootfsPropagation": propagation}
    runtime.output(mapped("mount -t tmpfs x /tmp", changes))  # the fixture looks for leaks


# --- exec ----------------------------------------------------------------------------------------


def test_exec_enters_the_user_namespace(runtime, mapped):
    id = runtime.started(mapped("sleep 100"))
    done = runtime.ok("exec", id, "sh", "-c", "id; cat /proc/self/uid_map; grep Cap /proc/1/status")
    assert done.lines[0] == "uid=0 gid=0"
    assert done.lines[1].split() == ["0", str(FIRST), str(SIZE)]
    own = runtime.ok("exec", id, "grep", "Cap", "/proc/self/status")
    assert own.lines == done.lines[2:]


def test_exec_runs_as_another_user_of_the_user_namespace(runtime, mapped):
    id = runtime.started(mapped("sleep 100"))
    done = runtime.ok("exec", "--user", "5:6", "--additional-gids", "7", id, "id")
    assert done.out == "uid=5 gid=6 groups=7\n"
    assert "not mapped" in runtime.refuses("exec", "--user", str(SIZE), id, "id")


def test_exec_enters_although_the_pid_namespace_is_the_hosts(runtime, mapped):
    listed = [entry for entry in NAMESPACES if entry["type"] != "pid"]
    mounts = [mount for mount in MOUNTS if mount["type"] != "proc"]
    id = runtime.started(mapped("sleep 100", {"linux.namespaces": listed, "mounts": mounts}))
    assert runtime.ok("exec", id, "id").out == "uid=0 gid=0\n"


def test_the_terminal_of_exec_belongs_to_its_mapped_user(runtime, mapped):
    id = runtime.started(mapped("sleep 100"))
    words = runtime.command("exec", "-t", "-u", "7:7", id, "stat", "-c", "%u:%g:%a", "/dev/pts/0")
    command = ["script", "-qec", shlex.join(words), "/dev/null"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout.strip() == b"7:5:620"


def test_mappings_that_the_kernel_refuses_are_named(runtime, mapped):
    """The runtime's own user namespace may map fewer ids than there are."""
    inner = ["unshare", "--user", "--map-root-user", "--keep-caps"]
    made = mapped("true")
    command = [
        *inner,
        *runtime.command("--cgroup-manager", "disabled", "run", "-b", made.path, "x"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "linux.uidMappings" in done.stderr
