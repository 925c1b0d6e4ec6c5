"""A bundle whose config.json `runc spec` wrote, run unchanged."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest

from tests.bundles import LIMIT
from tests.lifecycle.test_terminal import Typed, console_socket, read_until, receive

pytestmark = pytest.mark.needs_runc


# runc 1.1 writes ambient capabilities that are not inheritable; newer ones write none
AMBIENT = re.compile(
    r"(pycontain: warning: process.capabilities.ambient: .* cannot be raised.*\n)?"
)


@pytest.fixture
def spec_bundle(bundle):
    """The busybox bundle made by `runc spec`, its program (sh, on a terminal) included."""
    made = bundle()
    (made.path / "config.json").unlink()
    subprocess.run(["runc", "spec"], cwd=made.path, check=True)
    return made


def without_terminal(made, *args: str):
    made.edit({"process.terminal": False, "process.args": list(args)})
    return made


def test_the_configuration_of_runc_spec_runs_on_a_terminal(runtime, spec_bundle):
    with Typed(runtime.command("run", "-b", spec_bundle.path, runtime.new_id())) as typed:
        typed.until("# ")
        typed.type(b"hostname; stty size; tty; id -u; touch /x\r")
        shown = typed.until("Read-only file system")
        assert "runc\r\n30 90\r\n/dev/pts/0\r\n0\r\n" in shown
        typed.type(b"exit 5\r")
        assert typed.process.wait(LIMIT) == 5


def test_a_terminal_bundle_does_not_run_without_a_terminal(runtime, spec_bundle):
    said = runtime.refuses("run", "-b", spec_bundle.path, runtime.new_id())
    assert "neither standard input nor standard output is one" in said


def test_every_verb_works_with_the_configuration_of_runc_spec(runtime, spec_bundle):
    id = runtime.new_id()
    with console_socket(spec_bundle.path) as (path, listener):
        runtime.ok("create", "-b", spec_bundle.path, "--console-socket", path, id)
        master, _ = receive(listener)
    assert runtime.state(id)["status"] == "created"
    runtime.ok("start", id)
    read_until(master, "# ")
    assert runtime.state(id)["status"] == "running"
    assert runtime.ok("exec", id, "hostname").out == "runc\n"
    runtime.ok("pause", id)
    assert runtime.state(id)["status"] == "paused"
    runtime.ok("resume", id)
    assert len(json.loads(runtime.ok("ps", "-f", "json", id).out)) == 1
    assert runtime.ok("list", "-q").words == [id]
    runtime.ok("events", "--stats", id)
    runtime.ok("kill", id, "KILL")
    runtime.wait_for_status(id, "stopped")
    runtime.ok("delete", id)
    os.close(master)


SEEN = """
grep -E '^(CapEff|CapInh|NoNewPrivs)' /proc/self/status; ulimit -n; cat /proc/self/cgroup | grep ^0
ls /proc/keys /sys/firmware 2>/dev/null; cat /proc/keys | wc -c; hostname; ls /dev | tr '\\n' ' '
"""


def test_the_program_of_runc_spec_has_its_limits_and_capabilities(runtime, spec_bundle):
    done = runtime.run(without_terminal(spec_bundle, "sh", "-c", SEEN))
    assert AMBIENT.fullmatch(done.err)
    out = done.out
    assert "CapEff:\t0000000020000420" in out
    assert "NoNewPrivs:\t1" in out
    assert "1024\n" in out
    assert "runc\n" in out
    assert (
        "core fd full mqueue null ptmx pts random shm" in out
        or "fd full mqueue null ptmx pts random shm" in out
    )


def test_runc_and_pycontain_show_the_program_the_same(runtime, spec_bundle):
    """
    What differs by design is left out: cgroup mounts (runc uses v1 where it exists), masks, and
    ignored signals, which only pycontain resets.
    """
    script = """
    cut -d' ' -f5- /proc/self/mountinfo | grep -vE '^/sys/f|tmpfs none|tmpfs tmpfs ro|(keys|timer_list) ' | sed 's/ master:[0-9]*//' | sort; id; umask; env | sort
    cat /proc/self/limits; grep -E '^(Cap|NoNew|Seccomp|Groups)' /proc/self/status
    ls -l /dev | sed 's/ [A-Z][a-z][a-z] .*:.. / /'; stat -c '%n %a %F' /dev/* /dev/shm; ls /proc/self/fd; pwd
    cat /proc/self/oom_score_adj; hostname; ip addr show lo; cat /proc/sys/kernel/shmmax; stty size 2>&1; true
    """
    made = without_terminal(spec_bundle, "sh", "-c", script)
    ours = runtime.run(made).out
    theirs = subprocess.run(
        ["runc", "--root", runtime.folder / "runc", "run", "-b", made.path, runtime.new_id()],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if theirs.returncode != 0 and not theirs.stdout:
        pytest.skip(f"needs a host on which runc runs: {theirs.stderr}")
    assert ours.splitlines() == theirs.stdout.splitlines()
