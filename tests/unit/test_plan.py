"""The plan: which steps, in which order, for which configuration. No kernel, no root."""

from __future__ import annotations

from typing import Any

import pytest

from pycontain.errors import SpecError
from pycontain.plan import steps, vfork
from tests.unit.plans import FULL, HOOK, PROCESS, config, find, joined, names, plan_of
from tests.unit.spec_configs import MINIMAL, edited


def test_the_smallest_container_has_these_steps():
    assert names(plan_of({**MINIMAL, **PROCESS})) == [
        "reserve", "cgroup", "device filter", "spawn", "record", "guard", "keyring", "open root",
        "devices", "links", "chroot", "session", "cwd", "bounding set", "user", "capabilities",
        "find program", "created", "wait for start", "execve",
    ]  # fmt: skip


def test_the_same_configuration_gives_the_same_plan():
    assert plan_of(FULL) == plan_of(FULL)


def test_every_step_describes_what_it_does_and_why():
    for line in plan_of(FULL).describe():
        assert line["side"] in ("parent", "child")
        assert all(line.values()), line
        assert "\n" not in line["what"]


ORDER = [
    ("reserve", "cgroup"),  # the id is taken before anything exists
    ("cgroup", "limits"),
    ("limits", "spawn"),  # the child is limited from its start
    ("device filter", "spawn"),
    ("open namespaces", "spawn"),
    ("spawn", "record"),
    ("record", "guard"),  # a container can be deleted from the moment its process exists
    ("oom score", "guard"),
    ("guard", "join namespaces"),
    ("join namespaces", "root"),
    ("root", "mount"),
    ("mount", "devices"),
    ("devices", "links"),
    ("links", "hooks"),  # runtime.md, Lifecycle: after the environment
    ("container hooks", "places"),  # the hooks may mount what is filled then
    ("places", "readonly paths"),
    ("readonly paths", "masked paths"),
    ("hooks", "container hooks"),
    ("container hooks", "pivot"),  # createContainer runs before pivot_root
    ("masked paths", "pivot"),
    ("pivot", "terminal"),
    ("terminal", "session"),
    ("sysctl", "user"),
    ("cwd", "read-only"),  # the folder is created while the root is writable
    ("read-only", "user"),
    ("rlimits", "user"),
    ("bounding set", "user"),
    ("user", "capabilities"),
    ("capabilities", "no new privileges"),
    ("no new privileges", "find program"),  # looked up as the user that runs it
    ("find program", "created"),
    ("pid file", "created"),
    ("created", "wait for start"),
    ("wait for start", "seccomp"),  # as late as noNewPrivileges allows
    ("wait for start", "execve"),
    ("seccomp", "execve"),
]


RUNNABLE = {**MINIMAL, **PROCESS}
SECCOMP = {"defaultAction": "SCMP_ACT_ALLOW"}
TMPFS = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}


def why_fork(config: dict[str, Any], **request: Any) -> str:
    spawn = find(plan_of(config, separate_start=False, **request), steps.Spawn)
    return str(spawn.fork_because)


def test_the_child_of_run_shares_memory_unless_a_supervisor_waits():
    assert not why_fork(RUNNABLE)
    for request in ({"pid_file": "/p"}, {"pidfd_socket": "/s"}):
        assert "before the program runs" in why_fork(RUNNABLE, **request)


def test_the_child_is_forked_since_systemd_moves_it():
    assert why_fork(RUNNABLE, systemd="system") == "systemd moves it into its cgroup"


def test_the_child_of_create_is_forked_since_it_outlives_its_parent():
    assert "`start`" in find(plan_of(RUNNABLE), steps.Spawn).fork_because


def test_the_plan_states_how_the_child_is_created_and_why():
    run = find(plan_of(RUNNABLE, separate_start=False), steps.Spawn)
    assert run.what().startswith("vfork, with new namespaces: ")
    assert run.why == "linux.namespaces"
    create = find(plan_of(RUNNABLE), steps.Spawn)
    assert create.what().startswith("fork, with new namespaces: ")
    assert create.why.endswith("; forked: the parent must not sleep until `start`")


VFORK: dict[str, dict[str, Any]] = {
    "poststart hooks": {"hooks.poststart": HOOK},
    "poststop hooks": {"hooks.poststop": HOOK},
    "a pid namespace": {"linux.namespaces": [{"type": "mount"}, {"type": "pid"}]},
    "another network": {"linux.namespaces": [{"type": "network", "path": "/n"}]},
    "a filter loaded last": {"linux.seccomp": SECCOMP, "process.noNewPrivileges": True},
    "enough memory": {"linux.resources": {"memory": {"limit": 64 << 20}}},
    "no limit at all": {"linux.resources": {"unified": {"memory.max": "max"}}},
    "among the last to be killed": {"process.oomScoreAdj": -1},
    "no limit": {"linux.resources": {"memory": {"limit": -1}}},
    "limits": {"process.rlimits": [{"type": "RLIMIT_FSIZE", "soft": 9000, "hard": 9000}]},
    "a new tmpfs": {"linux.namespaces": [{"type": "mount"}], "mounts": [TMPFS]},
}
TIME = "time namespace"
ASKING = {"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/run/agent"}
MOUNTS = {"type": "mount"}
FORK: list[tuple[str, dict[str, Any]]] = [
    (
        "monitor of a virtual machine",
        {
            "annotations": {"run.pycontain.isolation": "kvm"},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux.namespaces": [MOUNTS],
        },
    ),
    ("hooks", {"hooks.prestart": HOOK}),
    ("hooks", {"hooks.createRuntime": HOOK}),
    ("hooks", {"hooks.createContainer": HOOK}),
    ("hooks", {"hooks.startContainer": HOOK}),
    ("joined pid namespace", {"linux.namespaces": [{"type": "pid", "path": "/p"}]}),
    ("in the user namespace", {"linux.namespaces": [{"type": "user", "path": "/u"}, MOUNTS]}),
    (TIME, {"linux.namespaces": [{"type": "time"}]}),
    (TIME, {"linux.namespaces": [{"type": "time", "path": "/t"}]}),
    ("filter", {"linux.seccomp": SECCOMP, "process.noNewPrivileges": False}),
    ("agent", {"linux.seccomp": ASKING, "process.noNewPrivileges": True}),
    (
        "network devices",
        {"linux.namespaces": [{"type": "network"}], "linux.netDevices": {"pcve0": {}}},
    ),
    ("64 MiB", {"linux.resources": {"memory": {"limit": (64 << 20) - 1}}}),
    ("64 MiB", {"linux.resources": {"unified": {"memory.max": "1000000"}}}),
    ("64 MiB", {"linux.resources": {"unified": {"memory.max": "4M"}}}),
    ("FSIZE", {"process.rlimits": [{"type": "RLIMIT_FSIZE", "soft": 0, "hard": 9000}]}),
    ("out-of-memory", {"process.oomScoreAdj": 1}),
    (
        "tmpcopyup",
        {
            "linux.namespaces": [{"type": "mount"}],
            "mounts": [TMPFS | {"options": ["tmpcopyup"]}],
        },
    ),
]


def runnable(changes: dict[str, Any]) -> dict[str, Any]:
    made = RUNNABLE
    for path, value in changes.items():
        made = edited(made, path, value)
    return made


@pytest.mark.parametrize("what", VFORK)
def test_the_child_shares_memory_with_these_properties(what):
    assert why_fork(runnable(VFORK[what])) == ""


@pytest.mark.parametrize(("reason", "changes"), FORK)
def test_the_child_is_forked_for_the_stated_reason(reason, changes):
    assert reason in why_fork(runnable(changes))


def test_each_reason_to_fork_is_tested():
    tested = {reason for reason, _ in FORK} | {"before the program runs", "`start`", "systemd"}
    for why, _ in vfork.REASONS:
        assert sum(reason in why for reason in tested) == 1, why


@pytest.mark.parametrize(("earlier", "later"), ORDER, ids=lambda name: name)
def test_each_step_comes_before_the_steps_that_depend_on_it(earlier, later):
    found = names(plan_of(FULL, pid_file="/p"))
    assert found.index(earlier) < found.index(later)


def test_start_container_hooks_come_right_before_the_program():
    *_, hooks, execute = plan_of(FULL).steps
    assert (hooks.name, execute.name) == ("container hooks", "execve")


def test_without_no_new_privileges_the_filter_comes_before_the_user():
    found = names(plan_of(edited(FULL, "process.noNewPrivileges", False)))
    assert found.index("seccomp") < found.index("bounding set") < found.index("user")


def test_run_does_not_wait_for_start():
    assert "wait for start" not in names(plan_of(FULL, separate_start=False))


def test_the_command_line_can_leave_steps_out():
    found = names(plan_of(FULL, cgroup=False, no_new_keyring=True, no_pivot=True))
    assert not {"cgroup", "device filter", "keyring"} & set(found)
    assert "limits" in found, "each is an error without a cgroup"
    assert find(plan_of(FULL, no_pivot=True), steps.ChangeRoot).pivot is False


def test_the_root_is_below_the_bundle_unless_absolute():
    assert plan_of(edited(config(), "root.path", "a/../r")).rootfs == "/b/r"
    assert plan_of(edited(config(), "root.path", "/r")).rootfs == "/r"
    with pytest.raises(SpecError, match="root"):
        plan_of({key: value for key, value in config().items() if key != "root"})


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("hostname", steps.SetHostname),
        ("linux.sysctl", steps.WriteSysctls),
        ("linux.maskedPaths", steps.MaskPaths),
        ("linux.readonlyPaths", steps.ProtectPaths),
        ("process.rlimits", steps.SetRlimits),
        ("process.scheduler", steps.SetScheduler),
        ("process.ioPriority", steps.SetIoPriority),
        ("linux.personality", steps.SetPersonality),
        ("process.oomScoreAdj", steps.AdjustOomScore),
        ("linux.seccomp", steps.LoadSeccomp),
        ("process.noNewPrivileges", steps.NoNewPrivileges),
        ("process.terminal", steps.OpenTerminal),
    ],
)
def test_a_step_is_planned_only_with_its_property(path, kind):
    value = FULL
    for key in path.split("."):
        value = value[key]
    with_it, without = plan_of(edited(config(), path, value)), plan_of(config())
    assert any(isinstance(step, kind) for step in with_it.steps)
    assert not any(isinstance(step, kind) for step in without.steps)


@pytest.mark.parametrize("names", [{"hostname": ""}, {"domainname": ""}, {"hostname": None}])
def test_an_empty_name_is_ignored(names):
    """Engines write one; without a UTS namespace it would erase the host's."""
    plan = plan_of({**MINIMAL, **PROCESS, **names})
    assert not any(isinstance(step, steps.SetHostname) for step in plan.steps)


def test_the_domain_name_can_be_empty_when_the_host_name_is_not():
    found = find(plan_of({**config(), "hostname": "a", "domainname": ""}), steps.SetHostname)
    assert (found.hostname, found.domainname) == ("a", "")


@pytest.mark.parametrize("own", [True, False])
def test_a_terminal_is_the_console_only_in_its_own_mount_namespace(own):
    """Without a mount namespace /dev/console could be the host's."""
    made = config() if own else {**MINIMAL, **PROCESS}
    plan = plan_of(edited(made, "process.terminal", True))
    assert find(plan, steps.OpenTerminal).mount == own
    files = [step.files for step in plan.steps if isinstance(step, steps.MakePlaces)]
    assert files == [("/dev/console",)] * own


@pytest.mark.parametrize("own", [True, False])
def test_the_working_directory_is_created_once(own):
    """In its own mount namespace before mounts are protected, otherwise when it is entered."""
    made = config() if own else {**MINIMAL, **PROCESS}
    plan = plan_of(edited(made, "process.cwd", "/a/b"))
    made_ahead = [step.directories for step in plan.steps if isinstance(step, steps.MakePlaces)]
    assert made_ahead == [("/a/b",)] * own
    assert find(plan, steps.EnterDirectory).make != own


def test_the_roots_propagation_is_set_on_the_root_alone():
    plan = plan_of(config(rootfsPropagation="rshared"))
    assert find(plan, steps.BindRoot).recursive
    assert find(plan, steps.ChangeRoot).propagation == find(plan, steps.BindRoot).propagation


@pytest.mark.parametrize(
    ("mounts", "ours"),
    [
        ([], True),
        ([{"type": "tmpfs"}], True),
        ([{"type": "devtmpfs"}], False),
        ([{"source": "/dev", "options": ["bind"]}], False),
        ([{"type": "devtmpfs"}, {"type": "tmpfs"}], True),
        ([{"type": "tmpfs"}, {"source": "/dev", "options": ["rbind"]}], False),
        ([{"type": "devtmpfs"}, {"options": ["remount", "ro"]}], False),
        ([{"type": "devtmpfs"}, {"destination": "/", "source": "/", "options": ["bind"]}], True),
    ],
)
def test_a_dev_of_the_host_is_not_changed(mounts, ours):
    """A bind, or devtmpfs, which has one instance; devices elsewhere are created anyway."""
    paths = ["/zz", "/dev/x"]
    devices = [{"path": path, "type": "c", "major": 1, "minor": 3} for path in paths]
    made = config(devices=devices)
    made["mounts"] = [{"destination": "/dev", **mount} for mount in mounts]
    plan = plan_of(made)
    paths = [node.path for node in find(plan, steps.MakeDevices).nodes]
    assert ("/dev/x" in paths, "/dev/null" in paths, "/zz" in paths) == (ours, ours, True)
    assert any(isinstance(step, steps.LinkDevices) for step in plan.steps) == ours
    said = "\n".join(plan.warnings)
    assert ("linux.devices[1]: /dev/x is left out" in said, "/dev/fd" in said) == (not ours,) * 2
    assert "/zz" not in said


def test_paths_cannot_be_protected_without_a_mount_namespace():
    """Those that do not exist need not be: the child looks."""
    linux = {"maskedPaths": ["/proc/keys"], "readonlyPaths": ["/", "/a//b"]}
    plan = plan_of({**MINIMAL, **PROCESS, "linux": linux})
    assert find(plan, steps.RequireMissing).paths == (
        ("/", "linux.readonlyPaths[0]"),
        ("/a/b", "linux.readonlyPaths[1]"),
        ("/proc/keys", "linux.maskedPaths[0]"),
    )
    assert not {"masked paths", "readonly paths", "read-only"} & set(names(plan))


def test_the_roots_propagation_is_that_of_the_bind_mount_which_becomes_it():
    bind = {"destination": "/", "source": "/s", "options": ["bind", "private"]}
    made = config() | {"mounts": [bind]}
    assert find(plan_of(made), steps.ChangeRoot).propagation == 1 << 18
    made["linux"]["rootfsPropagation"] = "rslave"
    assert find(plan_of(made), steps.ChangeRoot).propagation == 1 << 19


def test_oom_score_0_is_set_and_a_missing_one_is_not():
    assert (
        find(plan_of(edited(config(), "process.oomScoreAdj", 0)), steps.AdjustOomScore).score == 0
    )


# --- namespaces ----------------------------------------------------------------------------------


def test_cgroup_and_time_namespaces_are_not_created_by_clone():
    listed = [{"type": kind} for kind in ("pid", "mount", "cgroup", "time", "uts")]
    plan = plan_of(config(namespaces=listed))
    spawn = find(plan, steps.Spawn)
    assert set(spawn.names) == {"pid", "mount", "uts"}
    assert spawn.time_namespace
    assert find(plan, steps.Unshare).names == ("cgroup",)


def test_the_mount_namespace_is_joined_last():
    paths = [{"type": kind, "path": f"/ns/{kind}"} for kind in ("mount", "network", "ipc")]
    plan = plan_of({**config(namespaces=paths)})
    kinds = find(plan, steps.JoinNamespaces).kinds
    assert kinds[-1] == 0x20000
    assert len(kinds) == 3
    assert set(find(plan, steps.OpenNamespaces).paths.values()) == {
        "/ns/mount",
        "/ns/network",
        "/ns/ipc",
    }


def test_a_joined_namespace_that_sysctls_change_must_not_be_the_hosts():
    paths = [{"type": kind, "path": f"/ns/{kind}"} for kind in ("network", "ipc")]
    plan = plan_of(config(namespaces=paths, sysctl={"net.ipv4.ip_forward": "1"}))
    assert find(plan, steps.OpenNamespaces).foreign == {0x40000000: "linux.sysctl"}


def test_sysctls_are_planned_as_files():
    plan = plan_of(config(sysctl={"net.ipv4.conf.eth0/1.x": "1", "net/ipv4/conf/eth0.1/y": "2"}))
    assert find(plan, steps.WriteSysctls).settings == (
        ("net/ipv4/conf/eth0.1/x", "1", "linux.sysctl[net.ipv4.conf.eth0/1.x]"),
        ("net/ipv4/conf/eth0.1/y", "2", "linux.sysctl[net/ipv4/conf/eth0.1/y]"),
    )


# --- cgroup --------------------------------------------------------------------------------------

RW = {"destination": "/sys/fs/cgroup", "type": "cgroup2"}
OWN = [{"type": kind} for kind in ("mount", "cgroup")]


@pytest.mark.parametrize(
    ("uid", "mount", "namespaces", "delegated"),
    [
        (5, RW, OWN, True),
        (0, RW, OWN, False),
        (5, {**RW, "options": ["ro"]}, OWN, False),
        (5, {**RW, "type": "cgroup", "destination": "/sys/fs/cgroup/"}, OWN, True),
        (5, {**RW, "destination": "/other"}, OWN, False),
        (5, RW, OWN[:1], False),
        (5, RW, [OWN[0], {"type": "cgroup", "path": "/ns"}], False),
    ],
)
def test_the_cgroup_is_delegated_only_if_the_user_can_write_to_it(
    uid, mount, namespaces, delegated
):
    made = edited(config(namespaces=namespaces), "mounts", [mount])
    plan = plan_of(edited(made, "process.user", {"uid": uid, "gid": 0}))
    assert ("cgroup owner" in names(plan)) == delegated


def test_without_a_cgroup_namespace_the_containers_cgroup_is_bound():
    plan = plan_of(edited(config(), "mounts", [RW]))
    assert "bind cgroup" in names(plan)


# --- exec ----------------------------------------------------------------------------------------


def test_exec_joins_before_it_changes_to_the_user():
    found = [step.name for step in joined({}, pid_file="/p")]
    assert found.index("spawn") < found.index("join") < found.index("user") < found.index("execve")
    assert "pid file" in found
    assert "reserve" not in found


def test_exec_sets_its_identity_like_the_first_process():
    identity = (
        "session",
        "rlimits",
        "bounding set",
        "user",
        "capabilities",
        "no new privileges",
        "find program",
        "execve",
    )
    process = FULL["process"]
    plan = plan_of({**config(), "process": process}, takes_files=False)
    first = [step for step in plan.steps if step.name in identity]
    later = [step for step in joined(process) if step.name in identity]
    assert first == later


def test_the_terminal_of_exec_is_not_the_console():
    [terminal] = [
        step for step in joined({"terminal": True}) if isinstance(step, steps.OpenTerminal)
    ]
    assert not terminal.mount


def test_a_terminal_without_a_console_socket_has_the_size_of_ours():
    changes = {"terminal": True, "consoleSize": {"height": 1, "width": 2}}
    for window, size in (((0, 0), (1, 2)), ((30, 90), (30, 90))):
        [step] = [
            step for step in joined(changes, window=window) if isinstance(step, steps.OpenTerminal)
        ]
        assert (step.rows, step.columns) == size
