"""Where runc, crun and the specification differ: what we do, and what each of the two does."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest

from tests.bundles import CONFIG, LIMIT, MOUNTS
from tests.capabilities import missing
from tests.peers import Peer

OLD = {"ociVersion": "1.0.2"}  # crun 1.8 knows no later one
TMPFS = {"type": "tmpfs", "source": "tmpfs"}
SYSFS = {"destination": "/sys", "type": "sysfs", "source": "sysfs"}


# --- mounts --------------------------------------------------------------------------------------


def prefixed(made):
    """A bundle with a mount whose destination begins with the rootfs's own path."""
    inside = {"destination": f"{made.rootfs}/m", **TMPFS}
    made.edit({"mounts": [*CONFIG["mounts"], inside], **OLD})
    return made


def test_a_destination_with_the_path_of_the_rootfs_is_inside_it(runtime, bundle):
    made = prefixed(bundle("awk '$2 ~ \"^/m$\"' /proc/mounts; ls /"))
    done = runtime.output(made)
    assert done.words[:3] == ["tmpfs", "/m", "tmpfs"]
    assert "m" in done.words[6:]
    assert not (made.rootfs / made.rootfs.parts[1] / made.rootfs.parts[2]).exists()


def test_a_destination_that_only_begins_alike_is_not(runtime, bundle):
    made = bundle("awk '{print $2}' /proc/mounts | tail -1")
    other = {"destination": f"{made.rootfs}-2/m", **TMPFS}
    made.edit({"mounts": [*MOUNTS, other]})
    assert runtime.output(made).words == [f"{made.rootfs}-2/m"]


def test_peers_take_such_a_destination_literally_or_fail(peer, bundle):
    done = peer.run(prefixed(bundle("awk '$2 ~ \"/m$\" {print $2}' /proc/mounts")))
    if peer.name == "runc":
        assert done.status == 1  # 1.1: "is outside of rootfs"; main strips the path
    else:
        assert re.fullmatch(r"/.+/rootfs/m\n", done.out)


TWICE = "awk '$2 ~ \"/proc/(keys|bus)$\"' /proc/mounts | wc -l"
MASKED = {"linux.maskedPaths": ["/proc/keys", "/proc//keys", "/proc/keys"]}
READ_ONLY = {"linux.readonlyPaths": ["/proc/bus", "/proc/./bus", "/proc/bus/"]}


@pytest.mark.parametrize("twice", [MASKED, READ_ONLY])
def test_a_path_that_is_listed_twice_is_covered_once(runtime, bundle, twice):
    assert runtime.output(bundle(TWICE, twice)).words == ["1"]


@pytest.mark.parametrize("twice", [MASKED, READ_ONLY])
def test_peers_cover_it_each_time(peer, bundle, twice):
    assert peer.run(bundle(TWICE, {**twice, **OLD})).words == ["3"]


CGROUP = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
SHOW_CGROUP = "awk '$5 == \"/sys/fs/cgroup\" {print $4}' /proc/self/mountinfo"


def test_without_a_cgroup_namespace_a_container_sees_its_own_cgroup_alone(runtime, bundle):
    made = bundle(f"{SHOW_CGROUP}; cat /sys/fs/cgroup/cgroup.procs; ls -d /sys/fs/cgroup/cgroup.*")
    made.edit({"mounts": [*MOUNTS, SYSFS, CGROUP]})
    root, first, *files = runtime.output(made).words
    assert root.startswith("/pct")
    assert first == "1"
    assert "/sys/fs/cgroup/cgroup.events" in files, "the root cgroup has no such file"


def test_peers_show_the_hosts_whole_tree_there(peer, bundle):
    made = bundle(SHOW_CGROUP, {"mounts": [*MOUNTS, SYSFS, CGROUP], **OLD})
    assert peer.run(made).words == ["/"]


def test_a_bind_mount_shows_the_whole_tree_to_those_who_need_it(runtime, bundle):
    """What docs/peers.md recommends."""
    from pycontain.cgroup.place import find_mount

    made = bundle("ls /sys/fs/cgroup")
    whole = {**CGROUP, "type": "bind", "source": find_mount(), "options": ["rbind", "ro"]}
    made.edit({"mounts": [*MOUNTS, SYSFS, whole]})
    assert "cgroup.max.depth" in runtime.output(made).words
    assert "cgroup.events" not in runtime.output(made).words, "it is the root's"


# --- resources -----------------------------------------------------------------------------------


def device(access: str | None) -> dict[str, object]:
    rule = {"allow": True, "type": "c", "major": 1, "minor": 7}
    return {"linux.resources": {"devices": [rule if access is None else {**rule, "access": access}]},
            **OLD}  # fmt: skip


@pytest.mark.parametrize("access", ["rwx", "rw q", "R"])
def test_letters_other_than_rwm_are_refused(runtime, bundle, access):
    """runtime.md, Errors: an invalid value is an error; a rule with one could be meant otherwise."""
    error = runtime.fails(bundle("true", device(access)))
    assert f'linux.resources.devices[0].access = "{access}"' in error


@pytest.mark.parametrize("access", ["rwx", "rw q"])
def test_peers_ignore_such_letters(peer, bundle, access):
    assert peer.run(bundle("true", device(access))).status == 0


@pytest.mark.parametrize("access", [None, "", "mm"])
def test_no_letters_are_all_letters(runtime, bundle, access):
    runtime.output(bundle("true", device(access)))


@pytest.mark.parametrize("access", [None, ""])
def test_runc_refuses_no_letters_and_crun_takes_them_for_all(peer, bundle, access):
    assert peer.run(bundle("true", device(access))).status == {"runc": 1, "crun": 0}[peer.name]


DEADLINE = {"process.scheduler": {"policy": "SCHED_DEADLINE", "runtime": 10**6,
                                  "deadline": 10**7, "period": 10**7}}  # fmt: skip


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_a_deadline_on_some_processors_alone_is_refused_by_name(runtime, bundle):
    made = bundle("true", DEADLINE)
    few = min(os.sched_getaffinity(0))
    command = runtime.command("run", "-b", made.path, runtime.new_id())
    done = subprocess.run(["taskset", "-c", str(few), *command], capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 1
    for word in ("process.scheduler", "linux.resources.cpu.cpus", "SCHED_DEADLINE"):
        assert word in done.stderr
    runtime.output(made)


# --- the command line ----------------------------------------------------------------------------


def test_list_of_a_root_that_does_not_exist_is_an_error(runtime, tmp_path):
    runtime.root = tmp_path / "none"
    assert f"--root = {tmp_path}/none does not exist" in runtime.refuses("list")


def test_peers_list_nothing_there(peer):
    assert len(peer("list").lines) == 1


@pytest.fixture
def three(runtime, bundle):
    """Three created containers."""
    return [runtime.create(bundle("", {"process.args": ["sleep", "100"]})) for _ in range(3)]


def test_delete_with_regex_removes_what_matches(runtime, three):
    first, second, third = three
    runtime.ok("delete", "--regex", f"{first}$|{second}")
    assert runtime.ids() == [third]


def test_delete_with_regex_goes_on_after_an_error(runtime, three):
    first, second, third = three
    runtime.ok("start", first)
    runtime.ok("start", second)
    done = runtime("delete", "--regex", "^pct")
    assert done.status == 1
    assert f"{first} is running" in done.err
    assert f"warning: container = {second} is running" in done.err
    assert runtime.ids() == [first, second]
    runtime.ok("delete", "--force", "--regex", ".")
    assert runtime.ids() == []
    assert third


def test_kill_with_regex(runtime, three):
    for id in three:
        runtime.ok("start", id)
    runtime.ok("kill", "--regex", three[0][:-1], "KILL")
    for id in three:
        runtime.wait_for_status(id, "stopped")


@pytest.mark.parametrize(("pattern", "why"), [("[", "is not a regular expression"),
                                              ("nobody", "matches no container")])  # fmt: skip
def test_a_pattern_without_effect_is_an_error(runtime, three, pattern, why):
    for command in (["delete", "--regex", pattern], ["kill", "--regex", pattern]):
        assert why in runtime.refuses(*command)
    assert runtime.ids() == sorted(three)


# --- exec ----------------------------------------------------------------------------------------

CAPS = {"process.capabilities": {kind: ["CAP_CHOWN", "CAP_KILL"] for kind in
                                 ("bounding", "permitted", "effective")} |
        {"inheritable": ["CAP_FOWNER"], "bounding": ["CAP_FOWNER", "CAP_CHOWN"]},
        "process.noNewPrivileges": False}  # fmt: skip
SLEEPER = {"process.args": ["sleep", "100"]}
FOWNER = 1 << 3


def sets(text: str) -> dict[str, int]:
    return {line.split(":")[0]: int(line.split()[1], 16) for line in text.splitlines()}


def test_cap_of_exec_becomes_ambient_where_it_is_inheritable(runtime, bundle):
    """capabilities(7): so it reaches the program of another user than root; others cannot."""
    id = runtime.started(bundle("", {**SLEEPER, **CAPS}))
    asked = ["exec", "--user", "5:5", "--cap", "CAP_FOWNER", id, "grep", "Cap", "/proc/self/status"]
    assert sets(runtime.ok(*asked).out)["CapAmb"] == FOWNER
    assert sets(runtime.ok(*asked).out)["CapEff"] == FOWNER
    asked[4] = "CAP_CHOWN"
    done = runtime.ok(*asked)
    assert (sets(done.out)["CapAmb"], done.err) == (0, "")


def test_an_ambient_capability_that_cannot_be_raised_is_a_warning(runtime, bundle):
    kinds = {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "ambient": ["CAP_KILL"]}
    done = runtime.run(bundle("true", {"process.capabilities": kinds}))
    assert done.status == 0
    assert "warning: process.capabilities.ambient: CAP_KILL cannot be raised" in done.err
    assert done.err.count("\n") == 1


def test_a_cgroup_of_exec_that_does_not_exist_has_runcs_words(runtime, peer, bundle):
    made = bundle("", {**SLEEPER, **OLD})
    id = runtime.started(made)
    error = runtime.refuses("exec", "--cgroup", "nope", id, "true")
    assert "--cgroup = nope" in error
    assert "no such file or directory" in error
    theirs = peer("exec", "--cgroup", "nope", peer.started(made), "true")
    assert "no such file or directory" in theirs.err.lower()


@pytest.mark.parametrize(("program", "status"), [("nope", 127), ("/nope", 127), ("/etc", 126)])
def test_a_program_that_cannot_run_ends_exec_as_it_ends_in_a_shell(
    runtime, bundle, program, status
):
    """conmon, containerd and Docker read the text, not the status; people read both."""
    id = runtime.started(bundle("", SLEEPER))
    assert runtime("exec", id, program).status == status


def test_peers_end_exec_with_255_then(peer, bundle):
    id = peer.started(bundle("", {**SLEEPER, **OLD}))
    for program in ("nope", "/nope", "/etc"):
        assert peer("exec", id, program).status == 255


def test_other_errors_of_exec_end_with_255_as_with_runc(runtime, bundle):
    id = runtime.started(bundle("", SLEEPER))
    for words in (["--pid-file", "/nope/x", id], ["--cgroup", "nope", id], ["no-such-id"]):
        assert runtime("exec", *words, "true").status == 255


def test_exec_follows_a_process_that_was_moved(runtime, bundle):
    """Somebody on the host has moved the process to another cgroup, and removed its own."""
    from pycontain.cgroup.place import find_mount

    id = runtime.started(bundle("", SLEEPER))
    pid = str(runtime.state(id)["pid"])
    own = f"{find_mount()}/{id}"
    other = f"{own}-moved"
    os.mkdir(other)
    try:
        with open(f"{other}/cgroup.procs", "w") as file:
            file.write(pid)
        os.rmdir(own)
        assert f"0::/{id}-moved" in runtime.ok("exec", id, "cat", "/proc/self/cgroup").lines
    finally:
        runtime.ok("kill", id, "KILL")
        runtime.wait_for_status(id, "stopped")
        runtime.ok("delete", id)
        os.rmdir(other)


# --- update, events ------------------------------------------------------------------------------


@pytest.fixture
def limited(runtime, bundle):
    """A container with a limit that every host can apply."""
    limits = {"linux.resources": {"unified": {"hugetlb.2MB.max": "4194304"}}}
    return runtime.started(bundle("", {**SLEEPER, **limits}))


def held(id: str) -> str:
    from pycontain.cgroup.place import find_mount

    with open(f"{find_mount()}/{id}/hugetlb.2MB.max") as file:
        return file.read().strip()


@pytest.mark.parametrize("bad", ["many", "-7"])
def test_an_update_is_applied_wholly_or_not_at_all(runtime, limited, tmp_path, bad):
    wanted = {"unified": {"hugetlb.2MB.max": "8388608", "hugetlb.1GB.max": bad}}
    file = tmp_path / "resources"
    file.write_text(json.dumps(wanted))
    assert "hugetlb.1GB.max" in runtime.refuses("update", "--resources", file, limited)
    assert held(limited) == "4194304"
    file.write_text(json.dumps({"unified": {"hugetlb.2MB.max": "8388608"}}))
    runtime.ok("update", "--resources", file, limited)
    assert held(limited) == "8388608"


def test_a_failed_update_is_forgotten(runtime, limited, tmp_path):
    """The next one starts from what is applied."""
    file = tmp_path / "resources"
    file.write_text(json.dumps({"unified": {"hugetlb.2MB.max": "8388608", "hugetlb.1GB.max": "x"}}))
    runtime.refuses("update", "--resources", file, limited)
    file.write_text("{}")
    runtime.ok("update", "--resources", file, limited)
    assert held(limited) == "4194304"


@pytest.mark.needs_runc
def test_events_have_the_parts_of_runcs(runtime, bundle, tmp_path):
    made = bundle("", {**SLEEPER, **OLD})
    runc = Peer("runc", tmp_path)
    theirs = json.loads(runc("events", "--stats", runc.started(made)).out)
    runc.close()
    ours = json.loads(runtime.ok("events", "--stats", runtime.started(made)).out)
    assert ours.keys() == theirs.keys()
    assert ours["data"].keys() >= theirs["data"].keys()
    assert ours["data"]["hugetlb"].keys() == theirs["data"]["hugetlb"].keys()
    assert ours["data"]["network_interfaces"] is None


def test_events_end_at_once_with_the_container(runtime, bundle):
    id = runtime.started(bundle("", SLEEPER))
    command = runtime.command("events", "--interval", "1h", id)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        assert json.loads(running.stdout.readline())["type"] == "stats"
        runtime.ok("kill", id, "KILL")
        assert running.wait(LIMIT) == 0


# --- signals, scheduling -------------------------------------------------------------------------

IGNORING = "import signal, os, sys; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 3, 10, 15)];"
IGNORING += "os.execvp(sys.argv[1], sys.argv[1:])"
SEES_SIGNALS = {"process.args": ["grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"], **OLD}


def ignoring(command: list[str]) -> list[str]:
    """What a container's program then finds, started by a caller that ignores signals."""
    done = subprocess.run(["python3", "-c", IGNORING, *command], capture_output=True, text=True,
                          check=True, timeout=LIMIT)  # fmt: skip
    return done.stdout.split()


DEFAULT = ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]
GLIBC_KEEPS = 1 << 31 | 1 << 32


def test_signals_that_the_caller_ignores_have_their_default_in_a_container(runtime, bundle):
    """Else one that nohup(1) started could not be stopped; peers do the same."""
    made = bundle("", SEES_SIGNALS)
    assert ignoring(runtime.command("run", "-b", made.path, runtime.new_id())) == DEFAULT


def test_peers_reset_them_too(peer, bundle):
    """All but 32 and 33, which glibc keeps for itself and sigaction(3) does not touch."""
    made = bundle("", SEES_SIGNALS)
    _, blocked, _, ignored = ignoring(peer.command("run", "-b", made.path, peer.new_id()))
    assert int(blocked, 16) == 0
    assert int(ignored, 16) & ~GLIBC_KEEPS == 0


@pytest.mark.parametrize(
    ("name", "number"),
    [("SIGUSR1", 10), ("usr1", 10), ("10", 10), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("64", 64)],
)
def test_signals_are_sent_by_name_and_by_number(runtime, bundle, name, number):
    script = f"trap 'echo got {number}; exit' {number}; echo up; while :; do sleep 0.1; done"
    id = runtime.started(bundle(script))
    runtime.wait_for_text(id, "up")
    runtime.ok("kill", id, name)
    runtime.wait_for_text(id, f"got {number}")


@pytest.mark.parametrize("name", ["9x", "65", "-1", "SIG", ""])
def test_what_is_no_signal_is_an_error_without_effect(runtime, bundle, name):
    """crun takes "9x" for 9."""
    id = runtime.started(bundle("", SLEEPER))
    assert runtime("kill", id, name).status == 1
    assert runtime.state(id)["status"] == "running"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
@pytest.mark.parametrize("who", ["pycontain", "runc", "crun"])
def test_a_container_runs_on_the_processors_of_its_caller(runtime, bundle, tmp_path, who):
    if who != "pycontain" and (lack := missing(f"needs_{who}")):
        pytest.skip(lack)
    made = bundle("", {"process.args": ["grep", "Cpus_allowed_list", "/proc/self/status"], **OLD})
    command = runtime.command if who == "pycontain" else Peer(who, tmp_path).command
    few = str(min(os.sched_getaffinity(0)))
    words = command("run", "-b", made.path, f"{runtime.new_id()}-{who}")
    done = subprocess.run(["taskset", "-c", few, *words], capture_output=True, text=True,
                          check=True, timeout=LIMIT)  # fmt: skip
    assert done.stdout.split() == ["Cpus_allowed_list:", few]


def test_keep_leaves_state_and_cgroup_until_delete(runtime, bundle):
    from pycontain.cgroup.place import find_mount

    id = runtime.new_id()
    runtime.ok("run", "--keep", "-b", bundle("true").path, id)
    assert runtime.state(id)["status"] == "stopped"
    assert os.path.isdir(f"{find_mount()}/{id}")
    runtime.ok("delete", id)
    assert not os.path.isdir(f"{find_mount()}/{id}")


def test_the_version_has_the_lines_that_engines_parse(runtime):
    """go-runc: "NAME version X" first, then "key: value"; X is semantic, as containerd wants it."""
    first, *others = runtime.ok("--version").lines
    assert re.fullmatch(r"pycontain version \d+\.\d+\.\d+(-[\w.]+)?", first)
    assert all(re.fullmatch(r"\w+: \S+", line) for line in others)
    assert any(line.startswith("spec: 1.") for line in others)


# --- the process ---------------------------------------------------------------------------------

GROUPS = {"process.user": {"uid": 0, "gid": 0, "additionalGids": [6, 5, 6]}, **OLD,
          "process.args": ["grep", "Groups", "/proc/self/status"]}  # fmt: skip


def test_a_group_that_is_listed_twice_is_set_once(runtime, bundle):
    assert runtime.output(bundle("", GROUPS)).words == ["Groups:", "5", "6"]


def test_runc_sets_it_once_and_crun_twice(peer, bundle):
    groups = {"runc": ["5", "6"], "crun": ["5", "6", "6"]}[peer.name]
    assert peer.run(bundle("", GROUPS)).words == ["Groups:", *groups]


BARE = {"process.args": ["id", "-u"], **OLD}


def test_without_path_programs_are_found_where_execvp_looks(runtime, bundle):
    assert runtime.output(bundle("", {**BARE, "process.env": ["A=b"]})).words == ["0"]


def test_peers_find_none_without_path(peer, bundle):
    assert peer.run(bundle("", {**BARE, "process.env": ["A=b"]})).status == 1


@pytest.mark.parametrize("path", ["PATH=.", "PATH=", "PATH=/nope::"])
def test_an_entry_of_path_may_be_relative_or_empty(runtime, bundle, path):
    made = bundle("", {**BARE, "process.cwd": "/bin", "process.env": [path]})
    assert runtime.output(made).words == ["0"]


def test_a_resource_limit_that_is_set_twice_is_an_error(runtime, bundle):
    limit = {"type": "RLIMIT_NOFILE", "soft": 50, "hard": 100}
    error = runtime.fails(bundle("true", {"process.rlimits": [limit, limit]}))
    assert "process.rlimits[1].type" in error


def test_a_relative_masked_path_is_an_error(runtime, bundle):
    assert "linux.maskedPaths[0]" in runtime.fails(bundle("true", {"linux.maskedPaths": ["etc"]}))


def open_files(pid: int) -> list[str]:
    return sorted(os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")
                  if int(fd) > 2)  # fmt: skip


def test_a_created_process_has_only_what_start_and_the_program_need(runtime, bundle):
    """Its root, and the two FIFOs that `start` opens; runc's has its FIFO and three of Go's."""
    id = runtime.create(bundle("", SLEEPER))
    pid = runtime.state(id)["pid"]
    fifos = [f"{runtime.root}/{id}/start.{end}" for end in ("in", "out")]
    assert open_files(pid) == sorted(["/", *fifos])
    runtime.ok("start", id)
    assert open_files(pid) == []
