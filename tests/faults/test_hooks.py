"""Hooks that hang, write without end, or leave a process behind."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pycontain import hooks
from pycontain.spec.records import Hook
from tests.bundles import LIMIT, Bundle, look, wait_until

pytestmark = pytest.mark.needs_root

ON_HOST = ("prestart", "createRuntime", "poststart")
INSIDE = ("createContainer", "startContainer")


def with_hook(bundle: Any, kind: str, script: str, program: str = "sleep 100") -> Bundle:
    """A bundle with one hook, which sees its bundle as $HERE, or / in the container."""
    made = bundle(program)
    shell, here = (
        ("/bin/busybox", "") if kind == "startContainer" else ("/bin/busybox", made.rootfs)
    )
    env = [f"HERE={here}/tmp", "PATH=/bin:/usr/bin"]
    made.edit({"hooks": {kind: [{"path": shell, "args": ["sh", "-c", script], "env": env}]}})
    return made


def pid_in(made: Bundle, name: str) -> int:
    """The pid that a hook has written, once it has."""
    path = made.rootfs / "tmp" / name
    wait_until(lambda: path.exists() and path.read_text().endswith("\n"), f"the hook writes {name}")
    return int(path.read_text())


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


HANG = "echo $$ >$HERE/hung; exec sleep 1000"


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_create_whose_hook_hangs_is_killed_and_leaves_nothing(runtime, bundle, kind, number):
    made, before, id = with_hook(bundle, kind, HANG), look(), runtime.new_id()
    with subprocess.Popen(
        runtime.command("create", "-b", made.path, id), stderr=subprocess.DEVNULL
    ) as command:
        pid = pid_in(made, "hung")
        command.send_signal(number)
        command.wait(timeout=LIMIT)
    runtime.ok("delete", "--force", id)
    if kind in ON_HOST:
        wait_until(lambda: not runs(pid), "the hook ends")
    assert runtime.ids() == []
    assert look() == before


@pytest.mark.parametrize(("kind", "verb"), [("poststart", "start"), ("poststop", "delete")])
def test_a_hook_ends_with_the_command_that_is_killed(runtime, bundle, kind, verb):
    made, before = with_hook(bundle, kind, HANG), look()
    id = runtime.create(made)
    with subprocess.Popen(runtime.command(verb, id)) as command:
        pid = pid_in(made, "hung")
        command.kill()
        command.wait(timeout=LIMIT)
    wait_until(lambda: not runs(pid), "the hook ends")
    made.edit({"hooks": {}})
    runtime.ok("delete", "--force", id)
    assert look() == before


def hook_of_killed(folder: Path, working_directory: str) -> int:
    """The pid of a hook that hangs, started by a process that was then killed."""
    words = ("sh", "-c", f"echo $$ >{folder}/hung; exec sleep 1000")
    hook, hung = Hook(path="/bin/sh", args=words, at="hook"), folder / "hung"
    pid = os.fork()
    if pid == 0:
        try:
            hooks.run_hook(hook, {}, working_directory)
        finally:
            os._exit(1)
    wait_until(lambda: hung.exists() and hung.read_text().endswith("\n"), "the hook runs")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return int(hung.read_text())


def test_a_hook_on_the_host_is_killed_with_the_process_that_waits_for_it(tmp_path):
    pid = hook_of_killed(tmp_path, str(tmp_path))
    wait_until(lambda: not runs(pid), "the hook ends")


@pytest.mark.control
def test_a_naively_spawned_hook_outlives_the_process_that_waits_for_it(tmp_path):
    pid = hook_of_killed(tmp_path, "")  # as in a container, with which it ends
    assert runs(pid)
    os.kill(pid, signal.SIGKILL)


FLOOD = f"head -c {64 << 20} /dev/zero; stat -Lc %b /proc/self/fd/3 3>&1 >$HERE/kept"


@pytest.mark.parametrize("kind", [*ON_HOST, *INSIDE])
def test_a_hook_that_floods_is_not_kept_in_memory(runtime, bundle, kind):
    before = look()
    made = with_hook(bundle, kind, FLOOD)
    id = runtime.started(made)
    blocks = int((made.rootfs / "tmp/kept").read_text())
    assert blocks * 512 < 1 << 20, "of 64 MiB"
    runtime.ok("delete", "--force", id)
    assert look() == before


@pytest.mark.parametrize("kind", [*ON_HOST, *INSIDE])
def test_the_end_of_a_flood_is_in_the_error(runtime, bundle, kind):
    made = with_hook(bundle, kind, "yes 'no end' | head -c 8M; echo the reason; exit 9")
    assert "the reason" in runtime.fails(made)


DAEMON = "(while :; do sleep 1; done) & echo $! >$HERE/daemon"


@pytest.mark.parametrize("kind", [*ON_HOST, "createContainer"])
def test_a_hook_that_leaves_a_daemon_delays_nothing(runtime, bundle, kind):
    """
    It has the hook's streams open, which nobody waits for.

    One that a hook inside has left is in the container's cgroup and ends with it; one on the host
    is the hook's business, and holds nothing of ours.
    """
    made, before = with_hook(bundle, kind, DAEMON), look()
    id = runtime.started(made)
    pid = pid_in(made, "daemon")
    inside = kind in INSIDE
    if not inside:
        held = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert not [path for path in held if str(runtime.root) in path]
    runtime.ok("delete", "--force", id)
    if not inside:
        assert runs(pid)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not runs(pid), "the daemon ends")
    assert look() == before
