"""Where runc, crun and the specification differ: what we do, and what each of the two does."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from tests.bundles import CONFIG, MOUNTS

pytest_plugins = ["tests.peers"]

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
