"""config.md, Process: what a program inside sees of each property."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess

import pytest

from pycontain.kernel.calls import drop_from_bounding_set
from pycontain.runtime.host import read_facts
from pycontain.spec.names import CAPABILITIES
from tests.security.attack import in_a_child

ALL_CAPS = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"]  # bits 0, 5, 10: 0x421
STATUS = "cat /proc/self/status"


def keyed(text: str) -> dict[str, str]:
    """The lines "Key:\tvalue" of /proc/PID/status and /proc/PID/sched."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): " ".join(value.split()) for key, _, value in pairs}


# subject, changes, script, the words it prints
SEEN = [
    ("args are passed as they are", {"process.args": ["printf", "%s|", "a b", "", "*"]}, "", "a b||*|"),
    ("args[0] is found in PATH", {"process.args": ["echo", "x"]}, "", "x"),
    ("a program with a slash is not searched for in PATH", {"process.args": ["bin/echo", "x"]}, "", "x"),
    ("env is the whole environment", {"process.env": ["PATH=/bin", "A=1 2"]}, "env | sort", "A=1 2 HOME=/ PATH=/bin PWD=/ SHLVL=1"),
    ("the last value of a repeated variable counts", {"process.env": ["PATH=/bin", "A=1", "A=2"]}, "echo $A", "2"),
    ("an empty variable is set", {"process.env": ["PATH=/bin", "A="]}, "echo ${A-unset}.", "."),
    ("the program starts in cwd", {"process.cwd": "/tmp"}, "pwd", "/tmp"),
    ("a missing cwd is created", {"process.cwd": "/made/for/it"}, "pwd", "/made/for/it"),
    ("umask is 0022 by default", {}, "umask", "0022"),
    ("umask is set", {"process.user.umask": 0o077}, "umask", "0077"),
    ("user and group are set", {"process.user": {"uid": 7, "gid": 8}}, "id", "uid=7(seven) gid=8"),
    ("additional groups are set", {"process.user": {"uid": 7, "gid": 8, "additionalGids": [9, 10]}}, "grep Groups /proc/self/status", "Groups: 9 10"),
    ("root's groups are dropped", {}, "grep Groups /proc/self/status", "Groups:"),
    ("all four ids change", {"process.user": {"uid": 7, "gid": 8}}, "grep -E '^[UG]id' /proc/self/status", "Uid: 7 7 7 7 Gid: 8 8 8 8"),
    ("noNewPrivileges is on", {"process.noNewPrivileges": True}, "grep NoNewPrivs /proc/self/status", "NoNewPrivs: 1"),
    ("noNewPrivileges is off", {"process.noNewPrivileges": False}, "grep NoNewPrivs /proc/self/status", "NoNewPrivs: 0"),
    ("oomScoreAdj is set", {"process.oomScoreAdj": 321}, "cat /proc/self/oom_score_adj", "321"),
    ("oomScoreAdj 0 is set", {"process.oomScoreAdj": 0}, "cat /proc/self/oom_score_adj", "0"),
    ("a soft limit is set", {"process.rlimits": [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}]}, "ulimit -Sn; ulimit -Hn", "64 128"),
    ("every kind of limit is set", {"process.rlimits": [{"type": f"RLIMIT_{name}", "soft": 1 << 40, "hard": 1 << 40} for name in ("CPU", "FSIZE", "DATA", "AS")] + [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}, {"type": "RLIMIT_STACK", "soft": 1 << 20, "hard": 1 << 20}]}, "grep -cE '1099511627776 +1099511627776' /proc/self/limits; grep -E 'core|stack' /proc/self/limits", "4 Max stack size 1048576 1048576 bytes Max core file size 0 0 bytes"),
    ("ioPriority best effort", {"process.ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6}}, "ionice -p $$", "best-effort: prio 6"),
    ("ioPriority idle", {"process.ioPriority": {"class": "IOPRIO_CLASS_IDLE"}}, "ionice -p $$", "idle"),
    ("ioPriority realtime", {"process.ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": 2}}, "ionice -p $$", "realtime: prio 2"),
    ("personality LINUX32", {"linux.personality": {"domain": "LINUX32"}}, "uname -m", "i686"),
    ("personality LINUX", {"linux.personality": {"domain": "LINUX"}}, "uname -m", os.uname().machine),
    ("hostname is set", {"hostname": "name.of.it"}, "hostname; cat /proc/sys/kernel/hostname", "name.of.it name.of.it"),
    ("domainname is set", {"domainname": "example.org"}, "cat /proc/sys/kernel/domainname", "example.org"),
    ("a name that its sysctl repeats is set", {"domainname": "a.b", "linux.sysctl": {"kernel.domainname": "a.b", "kernel.hostname": "box"}}, "hostname; cat /proc/sys/kernel/domainname", "box a.b"),
    ("null in args is an empty argument", {"process.args": ["printf", "%s|", "a", None, "b"]}, "", "a||b|"),
    ("HOME comes from passwd", {"process.user": {"uid": 7, "gid": 8}}, "echo $HOME", "/home/seven"),
    ("HOME of the configuration wins", {"process.env": ["PATH=/bin", "HOME=/x"]}, "echo $HOME", "/x"),
]  # fmt: skip


@pytest.mark.property(
    "process",
    "process.args",
    "process.cwd",
    "process.env",
    "process.user*",
    "process.rlimits*",
    "process.oomScoreAdj",
    "process.noNewPrivileges",
    "process.ioPriority*",
    "linux.personality",
    "linux.personality.domain",
    "life-cycle 24",
)
@pytest.mark.parametrize(
    ("changes", "script", "words"), [row[1:] for row in SEEN], ids=[row[0] for row in SEEN]
)
def test_the_program_has_its_configured_environment_and_identity(
    runtime, bundle, changes, script, words
):
    made = bundle(script, changes)
    (made.rootfs / "etc/passwd").write_text("seven:x:7:8::/home/seven:/bin/sh\n")
    assert runtime.output(made).words == words.split()


UNSET = {
    "process": ("apparmorProfile", "selinuxLabel"),
    "linux": ("cgroupsPath", "rootfsPropagation", "mountLabel"),
    "": ("hostname", "domainname"),
}


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_property_counts_as_absent(runtime, bundle, empty):
    """Go's encoding/json makes no difference, so neither do engines."""
    made = bundle("hostname")
    for place, names in UNSET.items():
        made.edit({f"{place}.{name}".lstrip("."): empty for name in names})
    binding = {"destination": "/mnt", "source": "rootfs", "type": empty, "options": ["bind"]}
    rule = {"allow": True, "type": empty, "access": empty}
    made.edit({"mounts": [*made.config["mounts"], binding]})
    made.edit({"linux.resources": {"devices": [rule], "cpu": {"cpus": empty, "mems": empty}}})
    made.edit({"process.execCPUAffinity": {"initial": empty, "final": empty}})
    assert runtime.output(made).words == [os.uname().nodename]


# policy and flags as sched(7) numbers them; busybox shows /proc/self/sched
SCHEDULED = [
    ({"policy": "SCHED_OTHER", "nice": 7}, {"policy": "0", "prio": "127"}),
    ({"policy": "SCHED_BATCH", "nice": -3}, {"policy": "3", "prio": "117"}),
    ({"policy": "SCHED_IDLE"}, {"policy": "5"}),
    ({"policy": "SCHED_FIFO", "priority": 10}, {"policy": "1", "prio": "89"}),
    ({"policy": "SCHED_RR", "priority": 99}, {"policy": "2", "prio": "0"}),
    (
        {
            "policy": "SCHED_DEADLINE",
            "flags": ["SCHED_FLAG_RESET_ON_FORK"],
            "runtime": 1_000_000,
            "deadline": 20_000_000,
            "period": 40_000_000,
        },
        {"policy": "6", "dl.runtime": "", "prio": "-1"},
    ),
]


@pytest.mark.property("process.scheduler*")
@pytest.mark.parametrize(
    ("scheduler", "seen"), SCHEDULED, ids=lambda value: str(value.get("policy"))
)
def test_the_scheduler_is_that_of_the_configuration(runtime, bundle, scheduler, seen):
    made = bundle("", {"process.scheduler": scheduler, "process.args": ["cat", "/proc/self/sched"]})
    shown = keyed(runtime.output(made).out)
    assert {key: shown[key] for key in seen if seen[key]} == {k: v for k, v in seen.items() if v}
    assert seen.keys() <= shown.keys()


@pytest.mark.property("process.oomScoreAdj", "life-cycle 24")
def test_without_an_oom_score_the_callers_is_kept(runtime, bundle):
    made = bundle("cat /proc/self/oom_score_adj")
    words = runtime.command("run", "--bundle", made.path, runtime.new_id())
    shell = 'echo 77 >/proc/self/oom_score_adj; exec "$@"'
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *words], capture_output=True, text=True, check=True
    )
    assert done.stdout == "77\n"


SETS = [
    ("without the property", None, "0 0 0 0 0"),
    ("none", {"bounding": []}, "0 0 0 0 0"),
    ("bounding alone", {"bounding": ALL_CAPS}, "0 0 0 421 0"),
    (
        "without a bounding set, execve clears permitted and effective",
        {"permitted": ALL_CAPS, "effective": ALL_CAPS},
        "0 0 0 0 0",
    ),
    (
        "three sets",
        {"bounding": ALL_CAPS, "permitted": ALL_CAPS, "effective": ALL_CAPS},
        "0 421 421 421 0",
    ),
    (
        "inheritable only when listed",
        {"bounding": ALL_CAPS, "permitted": ALL_CAPS, "inheritable": ["CAP_KILL"]},
        "20 421 421 421 0",
    ),
    (
        "all five sets",
        {
            kind: ALL_CAPS
            for kind in ("bounding", "permitted", "effective", "inheritable", "ambient")
        },
        "421 421 421 421 421",
    ),
]


def caps(text: str) -> str:
    """The five sets of /proc/PID/status, as bare hexadecimal numbers."""
    shown = keyed(text)
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    return " ".join(f"{int(shown[name], 16):x}" for name in names)


@pytest.mark.property("process.capabilities*")
@pytest.mark.parametrize(("sets", "seen"), [row[1:] for row in SETS], ids=[row[0] for row in SETS])
def test_root_has_the_capabilities_of_the_configuration(runtime, bundle, sets, seen):
    made = bundle(STATUS, {"process.capabilities": sets})
    if sets is None:
        made.edit({"process": {k: v for k, v in made.config["process"].items() if v is not None}})
    assert caps(runtime.output(made).out) == seen


@pytest.mark.property("process.capabilities.ambient")
def test_a_user_keeps_ambient_capabilities_through_execve(runtime, bundle):
    kinds = ("bounding", "permitted", "effective", "inheritable", "ambient")
    sets = dict.fromkeys(kinds, ["CAP_NET_BIND_SERVICE"])
    made = bundle(STATUS, {"process.capabilities": sets, "process.user": {"uid": 5, "gid": 5}})
    assert caps(runtime.output(made).out) == "400 400 400 400 400"


def test_a_user_has_no_capabilities_without_ambient_ones(runtime, bundle):
    sets = dict.fromkeys(("bounding", "permitted", "effective"), ALL_CAPS)
    made = bundle(STATUS, {"process.capabilities": sets, "process.user": {"uid": 5, "gid": 5}})
    assert caps(runtime.output(made).out) == "0 0 0 421 0"


@pytest.mark.property("life-cycle 23")
@pytest.mark.parametrize("name", ["CAP_SYS_RESOURCE", "CAP_NOBODY_KNOWS"])
def test_a_capability_that_cannot_be_granted_is_a_warning(runtime, bundle, name):
    if name == "CAP_SYS_RESOURCE" and _has_capability(24):
        pytest.skip("needs a host without CAP_SYS_RESOURCE")
    sets = dict.fromkeys(("bounding", "permitted", "effective"), ["CAP_KILL", name])
    done = runtime.run(bundle(STATUS, {"process.capabilities": sets}))
    assert done.status == 0
    assert caps(done.out) == "0 20 20 20 0"
    assert done.err.startswith("pycontain: warning: process.capabilities: ")
    assert name in done.err


KILL = ["CAP_KILL"]
SHORT = [
    ("inheritable", "bounding", {"bounding": KILL}, "20 20 20 20 20"),
    ("effective", "permitted", {"permitted": KILL, "ambient": KILL}, "421 20 20 421 20"),
]


@pytest.mark.parametrize(("kind", "needs", "less", "seen"), SHORT, ids=[row[0] for row in SHORT])
def test_a_capability_missing_from_a_required_set_is_a_warning(
    runtime, bundle, kind, needs, less, seen
):
    kinds = ("bounding", "permitted", "effective", "inheritable", "ambient")
    sets = {**dict.fromkeys(kinds, ALL_CAPS), **less}
    if kind == "inheritable":  # so that the other sets are consistent
        sets |= {"permitted": KILL, "effective": KILL, "ambient": KILL}
    user = {"process.user": {"uid": 5, "gid": 5}}
    done = runtime.run(bundle(STATUS, {"process.capabilities": sets, **user}))
    assert (done.status, caps(done.out)) == (0, seen)
    assert [line.partition("capabilities: ")[2] for line in done.err.splitlines()] == [
        f"{name} is requested as {kind}, but not as {needs}"
        for name in ALL_CAPS
        if name != "CAP_KILL"
    ]


def test_an_ambient_capability_that_is_not_inheritable_is_dropped_with_a_warning(runtime, bundle):
    """config.md, Process: what cannot be granted SHOULD be warned about."""
    sets = {**dict.fromkeys(("bounding", "permitted", "effective", "ambient"), KILL)}
    made = bundle(STATUS, {"process.capabilities": sets})
    done = runtime.run(made)
    assert (done.status, caps(done.out)) == (0, "0 20 20 20 0")
    assert "process.capabilities.ambient: CAP_KILL cannot be raised" in done.err


def test_a_users_capabilities_count_when_the_program_is_looked_up(runtime, bundle):
    """execve(2) checks effective rights, access(2) those of the real user."""
    kinds = ("bounding", "effective", "permitted", "inheritable", "ambient")
    sets = dict.fromkeys(kinds, ["CAP_DAC_OVERRIDE"])
    user = {"process.user": {"uid": 1000, "gid": 1000}, "process.capabilities": sets}
    made = bundle("", {**user, "process.args": ["/private/busybox", "id", "-u"]})
    private = made.rootfs / "private"
    private.mkdir(mode=0o700)
    shutil.copy(made.rootfs / "bin/busybox", private / "busybox")
    (private / "busybox").chmod(0o700)
    assert runtime.output(made).words == ["1000"]
    made.edit({"process.capabilities": {}})
    assert "permission denied" in runtime.fails(made)


def test_the_caller_keeps_its_files_and_the_user_gets_its_pipes(runtime, bundle, tmp_path):
    """Otherwise the user could write to a file opened for reading, and change its mode."""
    script = "cat; echo taken >/proc/self/fd/0; chmod 4777 /proc/self/fd/0"
    made = bundle(script, {"process.user": {"uid": 1000, "gid": 1000}})
    file = tmp_path / "input"
    file.write_text("once\n")
    file.chmod(0o644)
    with file.open() as stdin:
        done = runtime.run(made, stdin=stdin)
    assert (done.out, file.read_text(), file.stat().st_mode & 0o7777) == ("once\n", "once\n", 0o644)
    assert {path.stat().st_uid for path in (file, runtime.folder / "command.out")} == {0}
    made = bundle("cat /dev/stdin", {"process.user": {"uid": 1000, "gid": 1000}})
    with subprocess.Popen(["echo", "once"], stdout=subprocess.PIPE) as echo:
        assert runtime.output(made, stdin=echo.stdout).out == "once\n"


def test_the_user_gets_the_files_of_an_engine(runtime, bundle):
    made = bundle("echo once >/dev/stdout", {"process.user": {"uid": 1000, "gid": 1000}})
    container = runtime.started(made)
    runtime.wait_for_text(container, "once")
    assert (runtime.folder / f"{container}.out").stat().st_uid == 1000


def _has_capability(number: int) -> bool:
    with open("/proc/self/status") as status:
        return bool(int(keyed(status.read())["CapPrm"], 16) >> number & 1)


# changes that cannot be applied, text of the error, which names field and value
REFUSED = [
    ({"process.rlimits": [{"type": "RLIMIT_SOFA", "soft": 1, "hard": 1}]}, "process.rlimits[0].type = \"RLIMIT_SOFA\""),
    ({"process.rlimits": [{"type": "RLIMIT_CPU", "soft": 9, "hard": 9}] * 2}, "process.rlimits[1].type"),
    ({"process.rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1 << 40, "hard": 1 << 40}]}, "RLIMIT_NOFILE"),
    ({"process.oomScoreAdj": 1001}, "process.oomScoreAdj = 1001"),
    ({"process.user.umask": 0o1000}, "process.user.umask = 512"),
    ({"process.cwd": "relative"}, "process.cwd = \"relative\""),
    ({"process.cwd": "/bin/sh"}, "/bin/sh not a directory"),
    ({"process.args": []}, "process.args"),
    ({"process.env": ["NOVALUE"]}, "process.env[0]"),
    ({"process.scheduler": {"policy": "SCHED_FIFO", "priority": 0}}, "process.scheduler.priority"),
    ({"process.scheduler": {"policy": "SCHED_SOON"}}, "process.scheduler.policy"),
    ({"process.ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": 8}}, "process.ioPriority.priority"),
    ({"linux.personality": {"domain": "MINIX"}}, "linux.personality.domain"),
    ({"process.apparmorProfile": "x"}, "process.apparmorProfile"),
    ({"process.selinuxLabel": "x"}, "process.selinuxLabel"),
    ({"hostname": "x" * 65}, "hostname"),
]  # fmt: skip


@pytest.mark.property("life-cycle 7")
@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=lambda value: str(value)[:50])
def test_a_property_that_cannot_be_applied_is_named(runtime, bundle, changes, words):
    assert words in runtime.fails(bundle("", changes))
    assert runtime.ids() == []


def test_a_limit_above_the_callers_hard_one_says_what_it_needs(runtime, bundle):
    if _has_capability(24):
        pytest.skip("needs a host without CAP_SYS_RESOURCE")
    limit = {"type": "RLIMIT_NPROC", "soft": 1 << 40, "hard": 1 << 40}
    line = runtime.fails(bundle("", {"process.rlimits": [limit]}))
    assert "CAP_SYS_RESOURCE" in line
    assert "process.rlimits[0]" in line


HOOK = [{"path": "/bin/true"}]
KINDS_OF_CHILD = {
    "shared memory": {},
    "its own memory": {"hooks": {"createRuntime": HOOK}},
    "with hooks in the container": {"hooks": {"startContainer": HOOK}},
}
TIGHT = [
    ("RLIMIT_AS", 16 << 20, "Max address space"),
    ("RLIMIT_DATA", 1 << 20, "Max data size"),
    ("RLIMIT_FSIZE", 0, "Max file size"),
]
every_child = pytest.mark.parametrize("child", KINDS_OF_CHILD)


def shown_limit(runtime, made, line):
    """The two numbers that a program prints, through a pipe: a file could exceed the limit."""
    command = runtime.command("run", "-b", made.path, runtime.new_id())
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    [found] = [shown for shown in done.stdout.splitlines() if shown.startswith(line)]
    return found.removeprefix(line).split()[:2]


@every_child
@pytest.mark.parametrize(("name", "size", "line"), TIGHT)
def test_a_tight_limit_applies_to_the_program_alone(runtime, bundle, name, size, line, child):
    """The runtime needs more memory than that, and execve needs room for its arguments."""
    made = bundle("cat /proc/self/limits", KINDS_OF_CHILD[child])
    many = [f"V{number}={'x' * 1000}" for number in range(500)]
    limit = {"type": name, "soft": size, "hard": size}
    made.edit({"process.rlimits": [limit], "process.env": ["PATH=/bin", *many]})
    assert shown_limit(runtime, made, line) == [str(size)] * 2


@pytest.mark.parametrize("size", [0, 100])
def test_a_hook_in_the_container_gets_the_whole_state_despite_limits(runtime, bundle, size):
    limit = {"type": "RLIMIT_FSIZE", "soft": size, "hard": size}
    made = bundle("true", {"process.rlimits": [limit]})
    annotations = {f"a{number}": "x" * 1000 for number in range(200)}
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "cat >/state; head -c 9000 /dev/zero"]}
    made.edit({"hooks": {"startContainer": [hook]}, "annotations": annotations})
    runtime.output(made)
    assert json.loads((made.rootfs / "state").read_text())["annotations"] == annotations


def test_a_hard_limit_of_memory_is_raised_where_that_is_permitted(runtime, bundle):
    """Where it is not, `create` already fails."""
    limit = {"type": "RLIMIT_AS", "soft": 1 << 40, "hard": 1 << 42}
    made = bundle("cat /proc/self/limits", {"process.capabilities": {}})
    made.edit({"process.rlimits": [limit]})
    lower = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))}
    if _has_capability(24):
        assert {str(1 << 40), str(1 << 42)} <= set(runtime.run(made, **lower).words)
    else:
        said = runtime.refuses("create", "-b", made.path, runtime.new_id(), **lower)
        assert "process.rlimits[0] = RLIMIT_AS" in said
        assert "CAP_SYS_RESOURCE" in said


FORBIDS = {
    "linux.seccomp": {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["prlimit64", "setrlimit"], "action": "SCMP_ACT_ERRNO"}],
    }
}


@pytest.mark.parametrize("no_new_privileges", [True, False])
@every_child
def test_a_filter_that_forbids_limits_is_loaded_after_them(
    runtime, bundle, no_new_privileges, child
):
    made = bundle("cat /proc/self/limits", {**KINDS_OF_CHILD[child], **FORBIDS})
    size = 1 << 30
    made.edit(
        {
            "process.rlimits": [{"type": "RLIMIT_AS", "soft": size, "hard": size}],
            "process.noNewPrivileges": no_new_privileges,
        }
    )
    assert shown_limit(runtime, made, "Max address space") == [str(size)] * 2


@pytest.mark.parametrize(
    ("status", "script"),
    [
        (0, "exit 0"),
        (3, "exit 3"),
        (255, "exit 255"),
        (137, "kill -9 $$"),
        (143, "sh -c 'kill $PPID'; sleep 1; exit 1"),
    ],
)
def test_the_exit_status_is_the_programs(runtime, bundle, status, script):
    made = bundle(f"trap 'exit 143' TERM; {script}" if status == 143 else script)
    if status == 137:  # process 1 of a pid namespace ignores its own SIGKILL
        made.edit({"linux.namespaces": [{"type": "mount"}, {"type": "uts"}]})
    assert runtime.run(made).status == status


def test_the_bounding_set_of_the_runtime_is_not_its_permitted_set():
    """The kernel grants no inheritable capability from outside of it: capset(2), EPERM."""
    kill = CAPABILITIES["CAP_KILL"]

    def drop():
        drop_from_bounding_set([kill])
        facts = read_facts()
        return facts.permitted >> kill & 1, facts.bounding >> kill & 1

    assert in_a_child(drop) == [1, 0]


# --- memory policy -------------------------------------------------------------------------------

SHOW_POLICY = "head -n1 /proc/self/numa_maps | cut -d' ' -f2"


@pytest.mark.property("linux.memoryPolicy*")
@pytest.mark.parametrize(
    ("policy", "shown"),
    [
        ({"mode": "MPOL_BIND", "nodes": "0"}, "bind:0"),
        ({"mode": "MPOL_PREFERRED", "nodes": "0"}, "prefer:0"),
        ({"mode": "MPOL_PREFERRED"}, "local"),
        ({"mode": "MPOL_PREFERRED_MANY", "nodes": "0-0"}, "prefer (many):0"),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0"}, "interleave:0"),
        ({"mode": "MPOL_LOCAL"}, "local"),
        ({"mode": "MPOL_DEFAULT"}, "default"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, "bind=static:0"),
        (
            {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]},
            "bind=relative:0",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_the_memory_policy_of_the_bundle_is_the_programs(runtime, bundle, policy, shown):
    if not os.path.exists("/proc/self/numa_maps"):
        pytest.skip("needs a kernel with NUMA")
    made = bundle("head -n1 /proc/self/numa_maps; sleep 100", {"linux.memoryPolicy": policy})
    container = runtime.started(made)
    runtime.wait_for_text(container, "\n")
    assert f" {shown} " in runtime.printed(container)
    assert f" {shown} " in runtime.ok("exec", container, "head", "-n1", "/proc/self/numa_maps").out


def test_a_node_that_does_not_exist_is_an_error(runtime, bundle):
    policy = {"mode": "MPOL_BIND", "nodes": "900"}
    error = runtime.fails(bundle("true", {"linux.memoryPolicy": policy}))
    assert "memory policy: set_mempolicy: linux.memoryPolicy invalid argument" in error
