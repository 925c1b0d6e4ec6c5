"""runtime.md: the states of a container, and what each operation does in each of them."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
from pathlib import Path

import pytest

from tests.bundles import TOKEN, wait_until

SLEEPER = "echo up; sleep 100"
STATES = ("created", "running", "paused", "stopped")


def in_state(runtime, bundle, state: str) -> str:
    """A container in this state."""
    id = runtime.create(bundle(SLEEPER))
    if state != "created":
        runtime.ok("start", id)
        runtime.wait_for_text(id, "up")
    if state == "paused":
        runtime.ok("pause", id)
    if state == "stopped":
        runtime.ok("kill", id, "KILL")
        runtime.wait_for_status(id, "stopped")
    return id


# command -> state -> the state afterwards ("": deleted); in any other state it is an error
EFFECTS = {
    "state": {state: state for state in STATES},
    "start": {"created": "running"},
    "pause": {"created": "paused", "running": "paused"},
    "resume": {"paused": "running"},
    "kill": {"created": "stopped", "running": "stopped", "paused": "stopped"},
    "delete": {"created": "", "stopped": ""},
    "ps": {state: state for state in STATES},
}


def words(command: str, id: str) -> list[str]:
    """The command line; KILL, because process 1 ignores signals it does not handle."""
    return [command, id, *(["KILL"] if command == "kill" else [])]


@pytest.mark.property("life-cycle 3", "life-cycle 14", "life-cycle 15", "life-cycle 16")
@pytest.mark.parametrize("state", STATES)
def test_a_command_that_the_state_forbids_is_an_error_without_effect(runtime, bundle, state):
    id = in_state(runtime, bundle, state)
    for command, effects in EFFECTS.items():
        if state not in effects:
            line = runtime.refuses(*words(command, id))
            assert f"container = {id} is {state}" in line
            assert runtime.state(id)["status"] == state
    if state in ("paused", "stopped"):
        assert f"is {state}" in runtime.refuses("exec", id, "true")
    assert runtime.state(id)["status"] == state


@pytest.mark.property("life-cycle 3")
@pytest.mark.parametrize(
    ("command", "state"), [(c, s) for c, effects in EFFECTS.items() for s in effects]
)
def test_a_command_that_the_state_allows_has_its_effect(runtime, bundle, command, state):
    id = in_state(runtime, bundle, state)
    runtime.ok(*words(command, id))
    after = EFFECTS[command][state]
    if after:
        runtime.wait_for_status(id, after)
    else:
        assert runtime.ids() == []


@pytest.mark.parametrize("state", STATES)
def test_delete_with_force_removes_a_container_in_any_state(runtime, bundle, state):
    id = in_state(runtime, bundle, state)
    runtime.ok("delete", "--force", id)
    assert runtime.ids() == []


def test_delete_of_a_created_container_kills_it_and_runs_only_the_poststop_hooks(runtime, bundle):
    """As runc does; its program never ran."""
    made = bundle("touch /ran")
    hooks = {
        kind: [{"path": str(made.script(kind, f"touch {made.path}/{kind}-ran"))}]
        for kind in ("poststart", "poststop")
    }
    made.edit({"hooks": hooks})
    id = runtime.create(made)
    first = os.pidfd_open(runtime.state(id)["pid"])
    runtime.ok("delete", id)
    assert select.select([first], [], [], 0)[0], "its first process still runs"
    os.close(first)
    assert [path.name for path in made.path.glob("*-ran")] == ["poststop-ran"]
    assert not (made.rootfs / "ran").exists()


def test_delete_of_a_created_container_kills_its_processes_of_exec(runtime, bundle):
    """Without a pid namespace, nothing else would end it."""
    made = bundle(SLEEPER, {"linux.namespaces": [{"type": "mount"}, {"type": "uts"}]})
    id = runtime.create(made)
    runtime.ok("exec", "--detach", id, "sleep", "100")
    runtime.ok("delete", id)
    assert runtime.ids() == []  # and the fixture finds no process that is left


def test_exactly_one_of_concurrent_start_and_delete_wins(runtime, bundle):
    made = bundle(SLEEPER)
    for _ in range(5):
        id = runtime.create(made)
        racers = [
            subprocess.Popen(
                runtime.command(verb, id), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            for verb in ("start", "delete")
        ]
        started, deleted = (racer.wait() == 0 for racer in racers)
        assert started != deleted
        assert runtime.ids() == ([id] if started else [])
        if started:
            assert runtime.state(id)["status"] == "running"
            runtime.ok("delete", "--force", id)


@pytest.mark.property("annotations", "life-cycle 2")
def test_the_state_has_what_the_schema_requires(runtime, bundle):
    made = bundle(SLEEPER, {"annotations": {"org.example.a": "1", "org.example.b": ""}})
    id = runtime.create(made)
    state = runtime.state(id)
    assert state == {
        "ociVersion": "1.2.0",
        "id": id,
        "status": "created",
        "pid": state["pid"],
        "bundle": str(made.path),
        "annotations": {"org.example.a": "1", "org.example.b": ""},
        "rootfs": str(made.rootfs),
        "created": state["created"],
        "owner": "",
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", state["created"])
    assert state["pid"] > 1
    assert TOKEN in Path(f"/proc/{state['pid']}/cgroup").read_text()
    runtime.ok("start", id)
    assert runtime.state(id) == {**state, "status": "running"}
    runtime.ok("kill", id, "KILL")
    runtime.wait_for_status(id, "stopped")
    assert runtime.state(id)["pid"] == 0


def test_the_bundles_path_is_absolute_however_it_was_given(runtime, bundle):
    made = bundle(SLEEPER)
    id = runtime.new_id()
    runtime.ok("create", "-b", f"../{made.path.name}", id, cwd=made.path)
    assert runtime.state(id)["bundle"] == str(made.path)
    other = runtime.new_id()
    runtime.ok("create", other, cwd=made.path)
    assert runtime.state(other)["bundle"] == str(made.path)


@pytest.mark.property("life-cycle 6")
def test_the_program_does_not_run_before_start(runtime, bundle):
    made = bundle("echo ran >/marker; sleep 100", {"root.readonly": False})
    id = runtime.create(made)
    assert not (made.rootfs / "marker").exists()
    runtime.ok("start", id)
    wait_until(lambda: (made.rootfs / "marker").exists(), "the program runs")


@pytest.mark.property("life-cycle 8")
def test_config_json_may_change_after_create(runtime, bundle):
    made = bundle("echo first")
    id = runtime.create(made)
    made.edit({"process.args": ["echo", "second"], "hostname": "other"})
    runtime.ok("start", id)
    runtime.wait_for_text(id, "first")
    runtime.wait_for_status(id, "stopped")
    assert "second" not in runtime.printed(id)
    (made.path / "config.json").unlink()
    runtime.ok("delete", id)


@pytest.mark.property("life-cycle 14")
def test_a_container_without_a_process_can_be_created_and_not_started(runtime, bundle):
    made = bundle()
    made.write({key: value for key, value in made.config.items() if key != "process"})
    id = runtime.create(made)
    assert runtime.state(id)["status"] == "created"
    assert "process" in runtime.refuses("start", id)
    assert runtime.state(id)["status"] == "created"
    runtime.ok("kill", id, "KILL")
    runtime.wait_for_status(id, "stopped")
    runtime.ok("delete", id)


@pytest.mark.property("life-cycle 17")
def test_an_id_can_be_used_again_after_delete(runtime, bundle):
    made, id = bundle(SLEEPER), runtime.new_id()
    for _ in range(2):
        runtime.ok("create", "-b", made.path, id)
        runtime.ok("delete", "--force", id)


# --- ids -----------------------------------------------------------------------------------------

COMMANDS = ("state", "start", "kill", "delete", "pause", "resume", "ps", "exec", "events", "update")


@pytest.mark.property("life-cycle 13")
@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_id_is_an_error(runtime, command):
    more = ["true"] if command == "exec" else []
    line = runtime.refuses(command, "nobody", *more)
    assert "container = nobody does not exist" in line


def test_deleting_an_unknown_id_with_force_succeeds(runtime):
    runtime.ok("delete", "--force", "nobody")


@pytest.mark.property("life-cycle 13", "life-cycle 14", "life-cycle 15", "life-cycle 16")
@pytest.mark.parametrize("command", ["create", "run", *COMMANDS])
def test_a_missing_id_is_an_error(runtime, command):
    assert "ID" in runtime.refuses(command)


@pytest.mark.property("life-cycle 5")
@pytest.mark.parametrize(
    "id", ["", ".", "..", "a/b", "../x", ".hidden", "a b", "a\n", "ä", "x" * 256, "a*"]
)
def test_a_bad_id_is_refused_and_nothing_is_created(runtime, bundle, id):
    made = bundle()
    line = runtime.refuses("create", "-b", made.path, id)
    assert "id" in line
    assert not runtime.root.exists() or not list(runtime.root.iterdir())


@pytest.mark.parametrize("id", ["a", "A_1+2-3.x", "_", "+", "0"])
def test_ids_that_runc_accepts_are_accepted(runtime, bundle, id):
    runtime.ok("create", "-b", bundle().path, f"{id}{TOKEN}")
    assert runtime.ids() == [f"{id}{TOKEN}"]


def test_a_duplicate_id_is_refused_and_the_first_container_survives(runtime, bundle):
    id = runtime.started(bundle(SLEEPER))
    before = runtime.state(id)
    line = runtime.refuses("create", "-b", bundle().path, id)
    assert f"container = {id} exists already" in line
    assert runtime.state(id) == before


@pytest.mark.property("life-cycle 5")
def test_exactly_one_of_many_creates_with_one_id_wins(runtime, bundle):
    made, id = bundle(SLEEPER), runtime.new_id()
    command = runtime.command("create", "-b", made.path, id)
    racers = [
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(8)
    ]
    statuses = sorted(racer.wait() for racer in racers)
    assert statuses == [0] + [1] * 7
    assert runtime.state(id)["status"] == "created"
    assert runtime.ids() == [id]


# --- list, ps, events, update --------------------------------------------------------------------


def test_list_shows_every_container(runtime, bundle):
    ids = [in_state(runtime, bundle, state) for state in STATES]
    listed = json.loads(runtime.ok("list", "--format", "json").out)
    assert {item["id"]: item["status"] for item in listed} == dict(zip(ids, STATES, strict=True))
    assert {item["owner"] for item in listed} == {"root"}
    assert runtime.ok("list", "-q").words == ids
    table = runtime.ok("list").out
    assert all(id in table for id in ids)


def test_list_without_containers_is_empty(runtime):
    runtime.root.mkdir(mode=0o700)
    assert json.loads(runtime.ok("list", "-f", "json").out) == []


def test_ps_lists_every_process_of_the_container(runtime, bundle):
    id = runtime.started(bundle("sleep 100 & sleep 100 & echo up; wait"))
    runtime.wait_for_text(id, "up")
    pids = json.loads(runtime.ok("ps", "--format", "json", id).out)
    assert len(pids) == 3
    assert runtime.state(id)["pid"] in pids
    assert len(runtime.ok("ps", id).lines) == 1 + 3
    assert runtime.ok("ps", id, "-o", "pid,comm").lines[0].split() == ["PID", "COMMAND"]


def test_a_stopped_container_has_no_processes(runtime, bundle):
    id = in_state(runtime, bundle, "stopped")
    assert json.loads(runtime.ok("ps", "--format", "json", id).out) == []
    assert len(runtime.ok("ps", id).lines) == 1


@pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "TERM"])
def test_a_created_container_dies_on_terminating_signals(runtime, bundle, name):
    """The first process of a pid namespace ignores them unless it handles them."""
    id = in_state(runtime, bundle, "created")
    runtime.ok("kill", id, name)
    runtime.wait_for_status(id, "stopped")
    runtime.ok("delete", id)


def test_a_paused_container_does_nothing_until_it_is_resumed(runtime, bundle):
    made = bundle("echo up; while [ ! -e /tmp/go ]; do sleep .01; done; echo resumed")
    id = runtime.started(made)
    runtime.wait_for_text(id, "up")
    runtime.ok("pause", id)
    (made.rootfs / "tmp/go").touch()
    events = Path("/proc", str(runtime.state(id)["pid"]), "cgroup").read_text()
    assert id in events
    assert "resumed" not in runtime.printed(id)
    runtime.ok("resume", id)
    runtime.wait_for_text(id, "resumed")


def test_events_show_what_a_container_uses(runtime, bundle):
    id = runtime.started(bundle(SLEEPER))
    event = json.loads(runtime.ok("events", "--stats", id).out)
    assert (event["type"], event["id"]) == ("stats", id)
    assert "cpu" in event["data"]


def test_events_end_with_the_container(runtime, bundle):
    id = runtime.started(bundle(SLEEPER))
    command = runtime.command("events", "--interval", "10ms", id)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as events:
        assert events.stdout
        assert json.loads(events.stdout.readline())["type"] == "stats"
        runtime.ok("kill", id, "KILL")
        assert {json.loads(line)["type"] for line in events.stdout} <= {"stats"}
    assert events.returncode == 0


def test_update_changes_and_stores_a_limit(runtime, bundle):
    made = bundle(SLEEPER, {"linux.resources": {"unified": {"cgroup.max.descendants": "3"}}})
    id = runtime.started(made)
    path = Path(f"/proc/{runtime.state(id)['pid']}/cgroup").read_text().split("0::")[1].strip()
    mount = next(
        line.split()[1]
        for line in Path("/proc/mounts").read_text().splitlines()
        if " cgroup2 " in line
    )
    limits = made.path / "limits.json"
    limits.write_text(json.dumps({"unified": {"cgroup.max.depth": "2"}}))
    runtime.ok("update", "--resources", limits, id)
    for file, value in (("cgroup.max.descendants", "3"), ("cgroup.max.depth", "2")):
        assert Path(mount + path, file).read_text().strip() == value
    assert runtime.state(id)["status"] == "running"


def test_update_refuses_unknown_files_and_broken_json(runtime, bundle):
    id = runtime.started(bundle(SLEEPER))
    limits = runtime.folder / "limits.json"
    limits.write_text(json.dumps({"unified": {"cgroup.nothing": "2"}}))
    assert "cgroup.nothing" in runtime.refuses("update", "-r", limits, id)
    limits.write_text("{")
    assert str(limits) in runtime.refuses("update", "-r", limits, id)


# --- broken states -------------------------------------------------------------------------------


def test_a_directory_without_state_can_be_deleted_with_force(runtime):
    (runtime.root / "half").mkdir(parents=True)
    assert "delete it with --force" in runtime.refuses("state", "half")
    assert runtime.ok("list", "-q").out == ""
    runtime.ok("delete", "--force", "half")
    assert runtime.ids() == []


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"id": 1}'])
def test_a_broken_state_can_be_deleted_with_force(runtime, text):
    (runtime.root / "broken").mkdir(parents=True)
    (runtime.root / "broken/state.json").write_text(text)
    runtime.refuses("state", "broken")
    runtime.refuses("delete", "broken")
    runtime.ok("delete", "--force", "broken")
    assert runtime.ids() == []


def test_another_process_with_the_containers_pid_is_not_the_container(runtime, bundle):
    id = runtime.started(bundle(SLEEPER))
    file = runtime.root / id / "process"
    _, started, created = file.read_text().split()
    victim = subprocess.Popen(["sleep", "100"])
    try:
        file.write_text(f"{victim.pid} {started} {created}")
        assert runtime.state(id)["status"] == "stopped"
        runtime.refuses("kill", id, "KILL")
        runtime.ok("delete", id)
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


@pytest.mark.property("life-cycle 36")
def test_a_container_that_was_killed_from_outside_is_stopped(runtime, bundle):
    id = runtime.started(bundle(SLEEPER))
    os.kill(runtime.state(id)["pid"], 9)
    runtime.wait_for_status(id, "stopped")
    runtime.ok("delete", id)


def test_only_its_owner_can_access_the_state_root(runtime, bundle):
    made = runtime.create(bundle(SLEEPER))
    assert runtime.root.stat().st_mode & 0o777 == 0o700
    assert (runtime.root / made).stat().st_mode & 0o777 == 0o700


def test_a_filter_that_forbids_signal_handlers_does_not_prevent_start(runtime, bundle):
    """It is loaded at create, where new privileges are allowed."""
    deny = {"names": ["rt_sigaction"], "action": "SCMP_ACT_ERRNO"}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [deny]}
    made = bundle("", {"process.args": ["sleep", "100"], "process.noNewPrivileges": False})
    made.edit({"linux.seccomp": profile})
    assert runtime.state(runtime.started(made))["status"] == "running"
