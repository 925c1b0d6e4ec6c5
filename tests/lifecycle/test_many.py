"""Many containers, one after the other and at once, leave nothing behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pycontain
from pycontain.options import Options
from pycontain.runtime.delete import destroy
from pycontain.runtime.handle import Handle
from pycontain.state.directory import StateDir
from tests.bundles import LIMIT, TOKEN, Runtime, wait_until

# In a separate process, where nothing that pytest does hides what 200 containers leave.
MANY = """
import json, os, sys
from pycontain.options import Options
from pycontain.plan.request import Request
from pycontain.runtime.run import run

bundle, root, token = sys.argv[1:]

def own():
    return {
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "children": open("/proc/self/task/%d/children" % os.getpid()).read(),
        "namespaces": sorted(os.readlink("/proc/self/ns/" + name) for name in os.listdir("/proc/self/ns")),
        "threads": os.listdir("/proc/self/task"),
        "mounts": open("/proc/self/mountinfo").read(),
        "cwd": os.getcwd(), "umask": os.umask(0o22),
    }

def one(number):
    return run(Options(root=root), Request(id=f"{token}-many-{number}", bundle=bundle))

statuses = [one("first")]
before = own()
statuses += [one(number) for number in range(200)]
after = own()
print(json.dumps({"before": before, "after": after, "statuses": sorted(set(statuses))}))
"""


def test_two_hundred_containers_one_after_another_leave_nothing(runtime: Runtime, bundle):
    made = bundle("exit 3")
    package = str(Path(pycontain.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", MANY, made.path, runtime.root, TOKEN],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=False,
        env={**os.environ, "PYTHONPATH": package},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["statuses"] == [3]
    assert found["after"] == found["before"]
    assert runtime.ids() == []


@pytest.mark.parametrize("verb", ["run", "create"])
def test_fifty_containers_at_once_leave_nothing(runtime: Runtime, bundle, verb):
    made = bundle("exit 3")
    ids = [runtime.new_id() for _ in range(50)]
    with (made.path / "errors").open("ab") as errors:
        commands = [
            subprocess.Popen(
                runtime.command(verb, "-b", made.path, id),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
            )
            for id in ids
        ]  # fmt: skip
    statuses = {command.wait(LIMIT) for command in commands}
    assert (made.path / "errors").read_text() == ""
    assert statuses == {3 if verb == "run" else 0}
    assert runtime.ids() == ([] if verb == "run" else sorted(ids))


def test_racing_starts_and_deletes_leave_no_half_deleted_container(runtime: Runtime, bundle):
    """Whichever wins, at most one start succeeds and the container is deleted."""
    for _ in range(5):
        id = runtime.create(bundle("sleep 100"))
        racers = [
            subprocess.Popen(
                runtime.command(*words), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            for words in (("start", id), ("delete", "--force", id), ("start", id))
        ]
        lines = [racer.communicate(timeout=LIMIT)[1].decode() for racer in racers]
        assert racers[1].returncode == 0, lines
        assert [racers[0].returncode, racers[2].returncode] != [0, 0], "only one start can win"
        assert all(line.count("\n") <= 1 for line in lines), lines
        assert runtime.ids() == []


def test_a_command_that_waits_for_the_lock_reports_a_deleted_container(runtime: Runtime, bundle):
    id = runtime.create(bundle("sleep 100"))
    options = Options(root=str(runtime.root))
    with StateDir.open(options.root, id):
        waiting = subprocess.Popen(
            runtime.command("start", id),
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        locks = Path("/proc/locks")
        blocked = re.compile(f"-> FLOCK .* {waiting.pid} ")
        wait_until(lambda: blocked.search(locks.read_text()), "start waits for the lock")
        destroy(options, Handle(options, id))
    line = waiting.communicate(timeout=LIMIT)[1]
    assert waiting.returncode == 1
    assert line.startswith(f"pycontain: container = {id} does not exist; ")
