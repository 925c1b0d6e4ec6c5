"""Filters that ask an agent: SCMP_ACT_NOTIFY, listenerPath, listenerMetadata. config-linux.md."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.agent import Agent
from tests.bundles import wait_until
from tests.lifecycle.test_joined_pids import joined, pod  # noqa: F401 -- fixtures

pytestmark = pytest.mark.needs_root

if os.uname().machine != "x86_64":
    pytest.skip("system call numbers of x86-64 are used", allow_module_level=True)

MKDIR, WRITE, EXECVE, CLOSE = 83, 1, 59, 3
EIO = 5
LISTENER = "anon_inode:seccomp notify"
FLAGS = (
    "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
)  # fmt: skip


@pytest.fixture
def agent(tmp_path):
    """An agent that refuses mkdir(2) and lets everything else happen."""
    with Agent(tmp_path / "agent", lambda number: EIO if number == MKDIR else 0) as made:
        yield made


def asking(agent, names=("mkdir",), **more):
    """A profile that asks the agent about these system calls."""
    rule = {"names": [*names], "action": "SCMP_ACT_NOTIFY"}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] if names else []}
    return {**profile, "listenerPath": str(agent.path), **more}


def with_profile(profile, privileges=True):
    return {"linux.seccomp": profile, "process.noNewPrivileges": privileges}


SCRIPT = "mkdir /tmp/x || echo refused"


@pytest.mark.property("linux.seccomp.listenerPath", "life-cycle 27")
@pytest.mark.parametrize("privileges", [True, False], ids=["no new privileges", "privileges"])
@pytest.mark.parametrize(
    "names", [("mkdir",), ("mkdir", "write", "close", "execve", "read")], ids=len
)
def test_an_agent_decides_about_a_system_call(runtime, bundle, agent, privileges, names):
    """Also about those that the runtime itself makes before the program."""
    made = bundle(SCRIPT, with_profile(asking(agent, names), privileges))
    done = runtime.run(made)
    assert (done.status, done.out) == (0, "refused\n"), done
    assert "Input/output error" in done.err
    assert MKDIR in [number for _, number in agent.calls]


@pytest.mark.parametrize("privileges", [True, False], ids=["no new privileges", "privileges"])
def test_every_system_call_of_a_program_can_be_asked_about(runtime, bundle, agent, privileges):
    profile = asking(agent, (), defaultAction="SCMP_ACT_NOTIFY")
    done = runtime.run(bundle(SCRIPT, with_profile(profile, privileges)))
    assert (done.status, done.out) == (0, "refused\n"), done
    assert {EXECVE, WRITE, MKDIR} <= {number for _, number in agent.calls}


@pytest.mark.property(
    "linux.seccomp.listenerPath", "linux.seccomp.listenerMetadata", "life-cycle 27"
)
@pytest.mark.parametrize("privileges", [True, False], ids=["no new privileges", "privileges"])
def test_create_sends_the_listener_with_the_containers_state(runtime, bundle, agent, privileges):
    profile = asking(agent, listenerMetadata="for the agent")
    made = bundle(SCRIPT, {**with_profile(profile, privileges), "annotations": {"org.a": "b"}})
    container = runtime.create(made)
    pid = runtime.state(container)["pid"]
    [sent] = agent.states
    assert agent.counts == [1]
    assert sent == {
        "ociVersion": "1.3.0",
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": "for the agent",
        "state": {
            "ociVersion": made.config["ociVersion"],
            "id": container,
            "pid": pid,
            "status": "creating",
            "bundle": str(made.path),
            "annotations": {"org.a": "b"},
        },
    }
    runtime.ok("start", container)
    runtime.wait_for_text(container, "refused")


@pytest.mark.parametrize("privileges", [True, False], ids=["no new privileges", "privileges"])
def test_exec_sends_a_listener_of_its_own(runtime, bundle, agent, privileges):
    made = bundle("echo up; exec sleep 100", with_profile(asking(agent), privileges))
    container = runtime.started(made)
    runtime.wait_for_text(container, "up")
    done = runtime("exec", container, "sh", "-c", SCRIPT)
    assert (done.status, done.out) == (0, "refused\n"), done
    first, second = agent.states
    state = runtime.state(container)
    assert second["state"]["status"] == "running"
    assert second["state"]["pid"] == state["pid"] == first["pid"] != second["pid"]


@pytest.mark.parametrize("privileges", [True, False], ids=["no new privileges", "privileges"])
@pytest.mark.parametrize("names", [("mkdir",), ("mkdir", "write", "close", "read")], ids=len)
def test_an_agent_decides_in_a_joined_pid_namespace(
    runtime,
    joined,  # noqa: F811
    agent,
    privileges,
    names,
):
    made = joined(SCRIPT, with_profile(asking(agent, names), privileges))
    container = runtime.started(made)
    runtime.wait_for_text(container, "refused")
    assert agent.states[0]["pid"] == agent.states[0]["state"]["pid"]


@pytest.mark.property("linux.seccomp.flags")
@pytest.mark.parametrize("flag", [*FLAGS, None])
def test_each_flag_of_a_filter_works_with_a_listener(runtime, bundle, agent, flag):
    flags = [*FLAGS] if flag is None else [flag]
    done = runtime.run(bundle(SCRIPT, with_profile(asking(agent, flags=flags))))
    assert (done.status, done.out) == (0, "refused\n"), done


def test_hooks_of_the_container_run_under_the_filter(runtime, bundle, agent):
    made = bundle("true", with_profile(asking(agent)))
    hook = {"path": "/bin/mkdir", "args": ["mkdir", "/tmp/y"]}
    made.edit({"hooks": {"startContainer": [hook]}})
    assert "startContainer" in runtime.fails(made)
    assert MKDIR in [number for _, number in agent.calls]


def opened(runtime, container):
    """What the descriptors of a created container's first process refer to."""
    pid = runtime.state(container)["pid"]
    return [os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()]


def test_without_an_agent_a_system_call_fails_instead_of_waiting(runtime, bundle, tmp_path):
    """Nobody but the agent has the listener, not even the process that waits for `start`."""
    with Agent(tmp_path / "agent") as agent:
        container = runtime.create(bundle(SCRIPT, with_profile(asking(agent))))
        wait_until(lambda: agent.states, "the listener is sent")
        assert LISTENER not in opened(runtime, container)
    runtime.ok("start", container)
    runtime.wait_for_text(container, "refused")
    assert "not implemented" in runtime.printed(container) or "refused" in runtime.printed(
        container
    )


@pytest.mark.parametrize("privileges", [True, False], ids=["no new privileges", "privileges"])
@pytest.mark.parametrize("kept", [0, 3], ids="{} preserved".format)
def test_a_process_in_a_joined_pid_namespace_does_not_keep_the_listener(
    runtime,
    joined,  # noqa: F811
    tmp_path,
    privileges,
    kept,
):
    with Agent(tmp_path / "agent") as agent:
        made = joined(SCRIPT, with_profile(asking(agent), privileges))
        hook = {"path": "/bin/true", "args": ["true"]}
        made.edit({"hooks": {"startContainer": [hook]}})
        given = [os.dup(2) for _ in range(9)]
        flags = ("--preserve-fds", str(kept)) if kept else ()
        container = runtime.create(made, *flags, pass_fds=range(3, 3 + kept))
        for fd in given:
            os.close(fd)
        assert LISTENER not in opened(runtime, container)
    runtime.ok("start", container)
    runtime.wait_for_text(container, "refused")


def test_a_path_without_a_notifying_action_is_ignored(runtime, bundle, tmp_path):
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/nowhere/agent"}
    profile |= {"listenerMetadata": "unused", "flags": [*FLAGS]}
    assert runtime.output(bundle("echo ran", {"linux.seccomp": profile})).out == "ran\n"


def test_an_agent_that_is_not_there_is_an_error_before_anything_exists(runtime, bundle, tmp_path):
    class Missing:
        path = tmp_path / "nobody"

    error = runtime.fails(bundle("true", with_profile(asking(Missing))))
    assert f"linux.seccomp.listenerPath = {Missing.path}" in error
    assert "does not exist" in error
    assert runtime.ids() == []


def test_a_child_that_is_killed_as_it_waits_for_the_agent_is_an_error(runtime, bundle, tmp_path):
    """The agent answers nothing: it kills."""
    seen = []

    def kill(number: int) -> int:
        [(pid, _)] = agent.calls[-1:]
        seen.append(pid)
        os.kill(pid, signal.SIGKILL)
        return 0

    with Agent(tmp_path / "agent", kill) as agent:
        error = runtime.fails(
            bundle("true", with_profile(asking(agent, ("prctl", "mkdir", "write")), False))
        )
    assert seen
    assert "killed by signal 9" in error
    assert runtime.ids() == []


def test_a_launch_that_waits_for_the_agent_can_be_interrupted(runtime, bundle, tmp_path):
    """An agent that takes the listener and does not answer."""
    import subprocess

    reached = tmp_path / "reached"

    def wait(number: int) -> int:
        reached.touch()
        time.sleep(0.5)
        return 0

    with Agent(tmp_path / "agent", wait) as agent:
        made = bundle("true", with_profile(asking(agent, ("write",)), False))
        words = runtime.command("create", "--bundle", made.path, runtime.new_id())
        create = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_until(reached.exists, "the agent is asked")
        create.send_signal(signal.SIGTERM)
        assert create.wait(60) == 128 + signal.SIGTERM
    assert runtime.ids() == []
    assert isinstance(agent.path, Path)
