"""config-linux.md, Namespaces: each type, new, joined by path, and inherited."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontain.init import process
from pycontain.init.context import Context
from pycontain.kernel import calls
from pycontain.kernel import const as c
from pycontain.plan import steps
from tests.bundles import MOUNTS, TOKEN
from tests.security.attack import in_a_child

KINDS = {
    "pid": "pid",
    "network": "net",
    "mount": "mnt",
    "ipc": "ipc",
    "uts": "uts",
    "cgroup": "cgroup",
    "time": "time",
}
"""The names of config.json and those of /proc/PID/ns."""

LINKS = "for n in pid net mnt ipc uts cgroup time user; do readlink /proc/self/ns/$n; done"


def without_uts(kinds: list[dict[str, str]]) -> dict[str, object]:
    """Changes for a list of namespaces, without a host name if uts is not among them."""
    changes: dict[str, object] = {"linux.namespaces": kinds}
    if "uts" not in {kind["type"] for kind in kinds}:
        changes["hostname"] = ""
    return changes


def inside(runtime, made) -> dict[str, str]:
    """The namespaces that a container's program is in."""
    return dict(word.split(":") for word in runtime.output(made).words)


def of(pid: int | str, name: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{name}").partition(":")[2]


@pytest.fixture
def elsewhere(shared_mounts: None) -> Iterator[int]:
    """The pid of a process in other namespaces of every type."""
    kinds = ["--pid", "--net", "--mount", "--ipc", "--uts", "--cgroup", "--time"]
    keeper = subprocess.Popen(
        ["unshare", "--fork", "--kill-child", *kinds, "sh", "-c", "echo up; exec cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert keeper.stdout
    assert keeper.stdin
    assert keeper.stdout.readline() == b"up\n"
    children = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children").read_text()
    yield int(children)
    keeper.stdin.close()
    keeper.wait()
    keeper.stdout.close()


@pytest.mark.property("linux.namespaces", "linux.namespaces[].type")
def test_every_listed_type_is_new_and_the_others_are_the_callers(runtime, bundle):
    made = bundle(LINKS, without_uts([{"type": kind} for kind in KINDS]))
    found = inside(runtime, made)
    assert [name for name in found if found[name] == of("self", name)] == ["user"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "mount"])
def test_a_namespace_that_is_not_listed_is_the_callers(runtime, bundle, kind):
    made = bundle(LINKS, without_uts([{"type": other} for other in KINDS if other != kind]))
    found = inside(runtime, made)
    assert found[KINDS[kind]] == of("self", KINDS[kind])
    assert sum(found[name] == of("self", name) for name in found) == 2  # and user


@pytest.mark.property("linux.namespaces[].path", "life-cycle 30")
@pytest.mark.parametrize("kind", KINDS)
def test_a_namespace_with_a_path_is_joined(runtime, bundle, elsewhere, kind):
    path = f"/proc/{elsewhere}/ns/{KINDS[kind]}"
    listed = [{"type": other} for other in KINDS if other != kind]
    listed.append({"type": kind, "path": path})
    found = inside(runtime, bundle(LINKS, without_uts(listed)))
    assert found[KINDS[kind]] == of(elsewhere, KINDS[kind])
    assert sum(found[name] == of("self", name) for name in found) == 1  # user


def test_namespaces_of_all_types_can_be_joined_at_once(runtime, bundle, elsewhere):
    listed = [{"type": kind, "path": f"/proc/{elsewhere}/ns/{KINDS[kind]}"} for kind in KINDS]
    found = inside(runtime, bundle(LINKS, without_uts(listed)))
    assert {name: of(elsewhere, name) for name in found} == found


def test_the_runtime_returns_to_its_own_pid_and_time_namespaces(runtime, bundle, elsewhere):
    listed = [{"type": "mount"}, {"type": "uts"}, {"type": "time"}]
    listed.append({"type": "pid", "path": f"/proc/{elsewhere}/ns/pid"})
    made = bundle("", {"linux.namespaces": listed})
    hook = made.script("hook", "for n in pid time; do readlink /proc/self/ns/$n; done >>out")
    made.edit({"hooks": {kind: [{"path": str(hook)}] for kind in ("createRuntime", "poststart")}})
    runtime.output(made, cwd=made.path)
    words = (made.path / "out").read_text().split()
    assert set(words) == {f"{name}:{of('self', name)}" for name in ("pid", "time")}
    assert len(words) == 4


def test_a_network_namespace_can_be_joined_by_its_name(runtime, bundle):
    subprocess.run(["ip", "netns", "add", TOKEN], check=True)
    try:
        subprocess.run(["ip", "-n", TOKEN, "addr", "add", "192.0.2.7/32", "dev", "lo"], check=True)
        listed = [{"type": "mount"}, {"type": "uts"}]
        listed.append({"type": "network", "path": f"/var/run/netns/{TOKEN}"})
        made = bundle("ip -o addr show lo", {"linux.namespaces": listed})
        assert "192.0.2.7/32" in runtime.output(made).out
        assert (Path("/var/run/netns") / TOKEN).exists(), "an existing namespace is kept"
    finally:
        subprocess.run(["ip", "netns", "del", TOKEN], check=True)
        subprocess.run(["umount", "/run/netns"], check=False, capture_output=True)


def test_loopback_is_up_in_a_new_network_namespace(runtime, bundle):
    made = bundle("ip -o addr show lo; ip -o link show lo")
    out = runtime.output(made).out
    assert "127.0.0.1/8" in out
    assert "LOOPBACK,UP" in out


def test_loopback_is_left_alone_in_a_joined_network_namespace(runtime, bundle, elsewhere):
    listed = [{"type": "mount"}, {"type": "uts"}]
    listed.append({"type": "network", "path": f"/proc/{elsewhere}/ns/net"})
    assert (
        "UP" not in runtime.output(bundle("ip -o link show lo", {"linux.namespaces": listed})).out
    )


def test_the_program_is_process_1_of_its_pid_namespace(runtime, bundle):
    made = bundle("", {"process.args": ["sh", "-c", "echo $$ $PPID; ps | wc -l"]})
    pid, parent, lines = map(int, runtime.output(made).words)
    assert (pid, parent) == (1, 0)
    assert lines <= 4


@pytest.mark.property("linux.timeOffsets*")
def test_time_offsets_are_applied(runtime, bundle):
    offsets = {"monotonic": {"secs": 5000}, "boottime": {"secs": 100_000, "nanosecs": 1}}
    listed = [{"type": "mount"}, {"type": "uts"}, {"type": "time"}]
    made = bundle(
        "cat /proc/uptime; cat /proc/self/timens_offsets",
        {"linux.namespaces": listed, "linux.timeOffsets": offsets},
    )
    uptime, _, *shown = runtime.output(made).words
    assert float(uptime) >= 100_000 + 1
    assert shown == ["monotonic", "5000", "0", "boottime", "100000", "1"]


def test_without_a_mount_namespace_the_root_is_changed_for_the_program_alone(runtime, bundle):
    made = bundle(
        "ls /; readlink /bin/sh",
        {"linux.namespaces": [{"type": "pid"}, {"type": "uts"}], "mounts": []},
    )
    assert runtime.output(made).words == ["bin", "dev", "etc", "proc", "sys", "tmp", "busybox"]


def test_without_a_mount_namespace_the_mounts_are_the_callers(runtime, bundle):
    """config-linux.md: a type that is not listed MUST be inherited."""
    made = bundle(
        "readlink /proc/self/ns/mnt", {"linux.namespaces": [{"type": "uts"}], "mounts": []}
    )
    subprocess.run(["mount", "-t", "proc", "proc", made.rootfs / "proc"], check=True)
    try:
        assert runtime.output(made).out == f"mnt:{of('self', 'mnt')}\n"
    finally:
        subprocess.run(["umount", made.rootfs / "proc"], check=True)


ALONE = {"linux.namespaces": [{"type": "uts"}], "mounts": []}


@pytest.mark.parametrize("key", ["maskedPaths", "readonlyPaths"])
def test_without_a_mount_namespace_protecting_an_existing_path_is_refused(runtime, bundle, key):
    made = bundle("echo ran", {**ALONE, f"linux.{key}": ["/proc/keys", "/proc/sys"]})
    assert runtime.output(made).out == "ran\n"
    made.edit({f"linux.{key}": ["/proc/keys", "/etc/../etc", "/tmp"]})
    line = runtime.fails(made)
    assert f"linux.{key}[1] = /etc would be mounted over on the host" in line
    assert 'add {"type": "mount"} to linux.namespaces' in line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mounts": MOUNTS[:1]}, 'mounts = ["/proc"]'),
        ({"root.readonly": True}, "root.readonly"),
        ({"linux.rootfsPropagation": "rslave"}, "linux.rootfsPropagation"),
        ({"linux.readonlyPaths": ["/"]}, "linux.readonlyPaths[0] = /"),
    ],
    ids=str,
)
def test_without_a_mount_namespace_what_would_change_the_host_is_refused_by_name(
    runtime, bundle, changes, words
):
    line = runtime.fails(bundle("true", {**ALONE, **changes}))
    assert f"{words} would " in line
    assert "without a mount namespace" in line


def test_without_a_mount_namespace_a_missing_cwd_is_created_in_the_rootfs(runtime, bundle):
    made = bundle("pwd; stat -c %a /work /work/deep", {**ALONE, "process.cwd": "/work/deep"})
    assert runtime.output(made, umask=0o077).words == ["/work/deep", "755", "755"]


@pytest.mark.property("linux")
def test_without_linux_in_the_configuration_only_the_root_is_isolated(runtime, bundle):
    made = bundle("echo $$; ls /")
    config = made.config
    del config["linux"]
    del config["hostname"]
    made.write({**config, "mounts": []})
    pid, *names = runtime.output(made).words
    assert int(pid) > 1
    assert "bin" in names
    assert "usr" not in names


REFUSED = [
    ([{"type": "pid"}, {"type": "pid"}], "linux.namespaces[1].type"),
    ([{"type": "bag"}], 'linux.namespaces[0].type = "bag"'),
    ([{"type": "user"}], "linux.uidMappings is required by the user namespace"),
    ([{"type": "ipc", "path": "relative"}], "linux.namespaces[0].path"),
    (
        [{"type": "ipc", "path": "/proc/self/ns/uts"}],
        "/proc/self/ns/uts is not a namespace of type ipc",
    ),
    (
        [{"type": "network", "path": "/proc/self/ns/pid"}],
        "/proc/self/ns/pid is not a namespace of type net",
    ),
    ([{"type": "pid", "path": "/etc/passwd"}], "/etc/passwd is not a namespace of type pid"),
    ([{"type": "time", "path": "/does/not/exist"}], "/does/not/exist does not exist"),
    ([{"type": "ipc"}], "without a mount namespace"),
]


@pytest.mark.property("life-cycle 30")
@pytest.mark.parametrize(("listed", "words"), REFUSED, ids=lambda value: str(value)[:70])
def test_an_invalid_namespace_is_refused(runtime, bundle, listed, words):
    if "without" not in words:
        listed = [*listed, {"type": "mount"}]
    made = bundle("", {"linux.namespaces": listed, "hostname": ""})
    assert words in runtime.fails(made)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"linux.timeOffsets": {"boottime": {"secs": 1}}}, "linux.timeOffsets"),
        ({"hostname": "x", "linux.namespaces": [{"type": "mount"}]}, "hostname"),
        ({"domainname": "x", "linux.namespaces": [{"type": "mount"}]}, "domainname"),
        (
            {
                "linux.namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "time"}],
                "linux.timeOffsets": {"monotonic": {"secs": -(2**40)}},
            },
            "linux.timeOffsets",
        ),
    ],
    ids=lambda value: str(value)[:70],
)
def test_properties_that_need_a_namespace_are_refused_without_it(runtime, bundle, changes, words):
    assert words in runtime.fails(bundle("", {"hostname": "", **changes}))


# --- sysctl --------------------------------------------------------------------------------------


@pytest.mark.property("linux.sysctl", "hostname", "domainname")
def test_sysctls_are_set_in_the_containers_namespaces(runtime, bundle):
    wanted = {
        "net.ipv4.ip_forward": "1",
        "net/ipv4/conf/lo/rp_filter": "2",
        "net.ipv4.conf.lo.mc_forwarding": "0",
        "kernel.shmmax": "4096",
        "kernel.domainname": "by.sysctl",
        "fs.mqueue.msg_max": "7",
    }
    del wanted["net.ipv4.conf.lo.mc_forwarding"]  # read-only
    script = "cd /proc/sys; cat net/ipv4/ip_forward net/ipv4/conf/lo/rp_filter kernel/shmmax kernel/domainname fs/mqueue/msg_max"
    before = Path("/proc/sys/kernel/shmmax").read_text()
    made = bundle(script, {"linux.sysctl": wanted})
    assert runtime.output(made).words == ["1", "2", "4096", "by.sysctl", "7"]
    assert Path("/proc/sys/kernel/shmmax").read_text() == before


def test_an_empty_host_or_domain_name_changes_nothing():
    """Engines write "" for no name; without a UTS namespace the host's would be erased."""

    def work():
        calls.unshare(c.CLONE_NEWUTS)
        calls.sethostname("kept")
        calls.setdomainname("kept.too")
        process.set_hostname(steps.SetHostname(hostname="", domainname=""), Context(None))
        return [os.uname().nodename, Path("/proc/sys/kernel/domainname").read_text()]

    assert in_a_child(work) == ["kept", "kept.too\n"]


def test_a_sysctl_is_set_even_when_proc_is_not_mounted(runtime, bundle):
    mounts = [mount for mount in MOUNTS if mount["destination"] != "/proc"]
    made = bundle("sleep 100", {"linux.sysctl": {"kernel.shmmax": "4096"}, "mounts": mounts})
    pid = runtime.state(runtime.started(made))["pid"]

    def read_inside():
        calls.setns(os.pidfd_open(pid), c.CLONE_NEWIPC)
        return Path("/proc/sys/kernel/shmmax").read_text()

    assert in_a_child(read_inside) == "4096\n"
    assert Path("/proc/sys/kernel/shmmax").read_text() != "4096\n"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("kernel.sysrq", "1", "belongs to the host"),
        ("vm.swappiness", "1", "belongs to the host"),
        ("kernel.hostname", "x", "hostname"),
        ("net.ipv4.nothing_like_it", "1", "linux.sysctl[net.ipv4.nothing_like_it]"),
        ("net.ipv4.ip_forward", "many", "linux.sysctl[net.ipv4.ip_forward]"),
        ("net.ipv4/../../kernel/sysrq", "1", "is not the name of a sysctl"),
    ],
)
def test_a_sysctl_that_cannot_be_set_is_named(runtime, bundle, name, value, words):
    assert words in runtime.fails(bundle("", {"linux.sysctl": {name: value}}))


def test_a_network_sysctl_needs_a_network_namespace_that_is_not_the_hosts(runtime, bundle):
    listed = [{"type": "mount"}, {"type": "uts"}]
    changes = {"linux.sysctl": {"net.ipv4.ip_forward": "1"}, "linux.namespaces": listed}
    assert "without a network namespace" in runtime.fails(bundle("", changes))
    listed.append({"type": "network", "path": "/proc/self/ns/net"})
    line = runtime.fails(bundle("", {**changes, "linux.namespaces": listed}))
    assert "linux.sysctl" in line


@pytest.mark.parametrize(
    ("kind", "file", "changes", "changed"),
    [
        ("mount", "mnt", {}, "mounts"),
        ("uts", "uts", {"hostname": "taken"}, "hostname"),
        ("uts", "uts", {"domainname": "taken"}, "domainname"),
    ],
)
def test_joining_a_namespace_of_the_host_to_change_it_is_refused(
    runtime, bundle, kind, file, changes, changed
):
    others = [{"type": name} for name in ("pid", "mount", "uts") if name != kind]
    listed = [*others, {"type": kind, "path": f"/proc/self/ns/{file}"}]
    line = runtime.fails(bundle("", {**changes, "linux.namespaces": listed}))
    assert f"the host's own {file} namespace" in line
    assert changed in line


def test_the_hosts_uts_namespace_can_be_joined_without_a_hostname(runtime, bundle):
    listed = [{"type": "mount"}, {"type": "uts", "path": "/proc/self/ns/uts"}]
    changes = {"hostname": "", "linux.namespaces": listed}
    assert runtime.output(bundle("hostname", changes)).words == [os.uname().nodename]
