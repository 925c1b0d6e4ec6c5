"""A bundle whose program runs in a virtual machine: every verb works as with namespaces."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess

import pytest

from pycontain.spec import system_calls
from tests.bundles import LIMIT, wait_until

LOOP = "while :; do sleep 0.1; done"


def test_the_program_sees_the_container_and_not_the_hosts_kernel(walled, bundle):
    made = bundle("echo $$; hostname; pwd; ls -d /bin; uname -r", {"process.cwd": "/tmp"})
    done = walled.output(made)
    assert done.lines == ["1", "box", "/tmp", "/bin", "5.14.0-pycontain"]
    assert os.uname().release != "5.14.0-pycontain"


def test_the_status_of_the_program_is_that_of_run(walled, bundle):
    assert walled.run(bundle("exit 7")).status == 7


def test_a_program_that_is_killed_by_a_signal_is_reported_as_such(walled, bundle):
    assert walled.run(bundle("sh -c 'kill -SEGV $$'; echo $?; exit 3")).lines == ["139"]


def test_the_programs_user_is_the_configurations(walled, bundle):
    user = {"uid": 1000, "gid": 1001, "additionalGids": [5]}
    made = bundle("id -u; id -g; id -G; touch /tmp/mine; stat -c %u:%g /tmp/mine")
    made.edit({"process.user": user})
    assert walled.output(made).lines == ["1000", "1001", "1001 5", "1000:1001"]


def test_the_program_writes_to_its_root_unless_that_is_read_only(walled, bundle):
    walled.output(bundle_ := bundle("echo text > /new; cat /new"))
    assert (bundle_.rootfs / "new").read_text() == "text\n"
    made = bundle("echo text > /new", {"root.readonly": True})
    done = walled.run(made)
    assert done.status != 0
    assert "Read-only file system" in done.err
    assert not (made.rootfs / "new").exists()


def test_a_mount_of_the_configuration_is_seen(walled, bundle, tmp_path):
    (tmp_path / "given").mkdir()
    (tmp_path / "given/file").write_text("seen\n")
    made = bundle("cat /given/file")
    mount = {"destination": "/given", "type": "bind", "source": str(tmp_path / "given"),
             "options": ["bind", "ro"]}  # fmt: skip
    made.edit({"mounts": [*made.config["mounts"], mount]})
    assert walled.output(made).lines == ["seen"]


def test_a_created_container_is_started_signalled_and_deleted(walled, bundle, isolation):
    id = walled.create(bundle(f"trap 'echo term; exit 5' TERM; echo up; {LOOP}"))
    state = walled.state(id)
    assert state["status"] == "created"
    assert state["annotations"] == {"run.pycontain.isolation": isolation}
    walled.ok("start", id)
    walled.wait_for_text(id, "up")
    assert walled.state(id)["status"] == "running"
    walled.ok("kill", id, "TERM")
    walled.wait_for_text(id, "term")
    walled.wait_for_status(id, "stopped")
    walled.ok("delete", id)


@pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM", "CHLD",
                                  "CONT", "TSTP", "WINCH", "PIPE", "RTMAX", "SEGV"])  # fmt: skip
def test_a_signal_reaches_the_program_which_may_handle_it(walled, bundle, name):
    number = signal.Signals[f"SIG{name}"].value
    id = walled.started(bundle(f"trap 'echo caught; exit 0' {number}; echo up; {LOOP}"))
    walled.wait_for_text(id, "up")
    walled.ok("kill", id, str(number))
    walled.wait_for_text(id, "caught")


def test_the_first_process_is_ended_by_no_signal_that_it_does_not_handle(walled, bundle):
    """pid_namespaces(7): as with namespaces."""
    id = walled.started(bundle(f"trap 'echo usr1' USR1; echo up; {LOOP}"))
    walled.wait_for_text(id, "up")
    walled.ok("kill", id, "TERM")
    walled.ok("kill", id, "USR1")
    walled.wait_for_text(id, "usr1")
    assert walled.state(id)["status"] == "running"
    walled.ok("kill", id, "KILL")
    walled.wait_for_status(id, "stopped")


def test_a_paused_program_does_not_run_until_it_is_resumed(walled, bundle):
    made = bundle("echo up; while :; do echo >> /ticks; sleep 0.05; done")
    id = walled.started(made)
    ticks = made.rootfs / "ticks"
    wait_until(ticks.exists)
    walled.ok("pause", id)
    assert walled.state(id)["status"] == "paused"
    before = ticks.read_text()
    subprocess.run(["sleep", "0.3"], check=True)
    assert ticks.read_text() == before
    walled.ok("resume", id)
    wait_until(lambda: ticks.read_text() != before)


def test_exec_runs_in_a_machine_of_its_own_that_sees_the_same_files(walled, bundle):
    id = walled.started(bundle(f"echo first > /tmp/file; echo up; {LOOP}"))
    walled.wait_for_text(id, "up")
    done = walled("exec", "--cwd", "/tmp", id, "sh", "-c", "echo $$; cat file; uname -r; exit 9")
    assert (done.status, done.lines) == (9, ["1", "first", "5.14.0-pycontain"])
    assert walled("exec", id, "missing").status == 127
    assert walled("exec", id, "sh", "-c", "kill -TERM $$").status == 128 + signal.SIGTERM


def test_a_process_of_exec_ends_with_the_containers_first(walled, bundle):
    id = walled.started(bundle(f"echo up; {LOOP}"))
    walled.wait_for_text(id, "up")
    pid_file = walled.folder / "pid"
    walled.ok("exec", "--detach", "--pid-file", pid_file, id, "sleep", "100")
    other = os.pidfd_open(int(pid_file.read_text()))
    walled.ok("kill", id, "KILL")
    assert select.select([other], [], [], LIMIT)[0], "it still runs"
    os.close(other)


def test_hooks_run_as_with_namespaces(walled, bundle):
    made = bundle("true")
    kinds = ("createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    inside = made.rootfs / "hook"
    inside.write_text("#!/bin/sh\ntouch /tmp/startContainer-ran\n")
    inside.chmod(0o755)
    hooks = {kind: [{"path": str(made.script(kind, f"touch {made.path}/{kind}-ran"))}]
             for kind in kinds}  # fmt: skip
    hooks["startContainer"] = [{"path": "/hook"}]
    made.edit({"hooks": hooks})
    assert walled.output(made).status == 0
    ran = {path.name[:-4] for path in (*made.path.glob("*-ran"), *made.rootfs.glob("tmp/*-ran"))}
    assert ran == set(kinds)


def test_the_annotation_chooses_as_the_flag_does(runtime, bundle, isolation):
    made = bundle("uname -r", {"annotations": {"run.pycontain.isolation": isolation}})
    assert runtime.output(made).lines == ["5.14.0-pycontain"]
    assert runtime.output(made, "--isolation", "namespaces").lines == [os.uname().release]


def test_the_plan_shows_the_difference(runtime, bundle, isolation):
    made = bundle("true")

    def plan(*flags):
        found = json.loads(runtime.ok("plan", "--format", "json", *flags, made.path).out)
        return [step["name"] for step in found]

    common = plan("--isolation", "namespaces")
    walled = plan("--isolation", isolation)
    assert common[-1] == "execve"
    assert walled[-1] == "vm"
    assert set(walled) - set(common) == {"monitor", "vm"}
    assert [name for name in walled if name not in ("monitor", "vm")] == common[:-1]


def test_a_program_that_does_not_exist_is_reported_as_with_namespaces(walled, bundle):
    made = bundle("", {"process.args": ["/missing"]})
    line = walled.fails(made)
    walled.isolation = ""
    assert line == walled.fails(made)


def test_memory_beyond_the_limit_ends_the_program_and_the_reason_is_said(walled, bundle, isolation):
    made = bundle("x=0123456789abcdef; while :; do x=$x$x; done")
    made.edit({"linux.resources": {"memory": {"limit": 64 << 20}}})
    done = walled.run(made)
    if "memory" in done.err and "controller" in done.err:
        pytest.skip("needs the memory controller of cgroup v2")
    assert done.status == 137
    assert "ran out of memory" in done.err


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_the_filter_of_images_lets_a_monitor_work(walled, bundle, no_new_privileges):
    """Without no_new_privs the filter is loaded before the capabilities are dropped."""
    made = bundle(f"echo up | cat; {LOOP}")
    made.edit({"linux.seccomp": system_calls.profile(()),
               "process.noNewPrivileges": no_new_privileges})  # fmt: skip
    id = walled.started(made)
    walled.wait_for_text(id, "up")
    assert walled.ok("exec", id, "sh", "-c", "echo in | cat").lines == ["in"]
