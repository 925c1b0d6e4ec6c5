"""
What the commands that engines call import: import time is most of a short command's time.

The tests compare the list of modules, not milliseconds, which depend on the machine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from pycontain.cli import launcher
from pycontain.lean import jsontext
from pycontain.spec.sample import sample

# Beyond what a bare `python3 -IS` has: C, or contained in the interpreter, or one short file.
ALLOWED = {
    "__future__", "_blake2", "_cffi_backend", "_collections_abc", "_json", "_prctl", "_socket",
    "_stat", "errno", "fcntl", "gc", "genericpath", "os", "os.path", "posixpath", "prctl", "select",
    "stat",
}  # fmt: skip

CHILD_AND_PLAN = ("pycontain.init.", "pycontain.spec.check", "pycontain.plan.plan")
NEVER_OURS = (
    "pycontain.cli.helptext", "pycontain.cli.render", "pycontain.cli.verbs", "pycontain.vm",
    "pycontain.runtime.doctor", "pycontain.kernel.ffi_source", "pycontain.image",
)  # fmt: skip
# What is known of a container that exists takes no binding of C, no configuration and no limits.
BEYOND_A_STATE_FILE = {"_cffi_backend", "pycontain.spec.parse", "pycontain.cgroup.tree"}

PROBE = """\
import sys
bare = set(sys.modules)
sys.path += {directories!r}
from pycontain.cli import fast
status = fast.main(sys.argv[1:])
with open({report!r}, "w") as file:
    print(status, *sorted(set(sys.modules) - bare), file=file)
"""


@pytest.fixture
def imported(tmp_path):
    """Runs a command line; returns its exit status and the modules that it imported."""
    report = tmp_path / "report"
    probe = PROBE.format(directories=launcher.directories(), report=str(report))

    def run(*words):
        command = [launcher.interpreter(), "-IS", "-c", probe, *words]
        # no pipes: a created container would keep them open
        quiet = subprocess.DEVNULL
        subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet, check=True, timeout=60)
        status, *modules = report.read_text().split()
        return int(status), set(modules)

    return run


def assert_light(modules):
    foreign = {name for name in modules if name.partition(".")[0] != "pycontain"}
    assert foreign <= ALLOWED
    assert not [name for name in modules if name.startswith(NEVER_OURS)]


@pytest.fixture
def bundle(tmp_path):
    """A bundle whose program exits at once."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox is missing: install busybox-static")
    (tmp_path / "rootfs").mkdir()
    shutil.copy(busybox, tmp_path / "rootfs" / "true")
    config = sample()
    config["process"] |= {"terminal": False, "args": ["/true"]}
    (tmp_path / "config.json").write_text(jsontext.dumps(config))
    return str(tmp_path)


LINES = [
    "create --bundle /nowhere c1",
    "run --bundle /nowhere c1",
    "start c1",
    "state c1",
    "kill c1 KILL",
    "delete c1",
    "delete --force c1",
    "exec c1 true",
    "pause c1",
    "resume c1",
    "--version",
]


@pytest.mark.parametrize("line", LINES)
def test_a_command_that_engines_call_imports_little(imported, tmp_path, line):
    _, modules = imported("--root", str(tmp_path / "state"), *line.split())
    assert_light(modules)


@pytest.mark.parametrize("line", ["state c1", "kill c1 KILL", "delete c1"])
def test_a_command_on_a_state_file_does_not_import_the_childs_side(imported, tmp_path, line):
    _, modules = imported("--root", str(tmp_path / "state"), *line.split())
    assert not [name for name in modules if name.startswith(CHILD_AND_PLAN)]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_whole_lifecycle_imports_little(imported, tmp_path, bundle):
    root = ("--root", str(tmp_path / "state"), "--cgroup-manager", "disabled")
    name = f"imports-{os.getpid()}"
    create = ("create", "--bundle", bundle, name)
    lifecycle = [("run", *create[1:]), create, ("state", name), ("start", name)]
    try:
        for words in lifecycle:
            status, modules = imported(*root, *words)
            assert status == 0
            assert_light(modules)
            assert words[0] not in ("state", "start") or not modules & BEYOND_A_STATE_FILE
    finally:
        status, modules = imported(*root, "delete", "--force", name)
    assert status == 0
    assert_light(modules)


def test_the_library_costs_nothing_until_it_is_used():
    probe = (
        "import json, sys; bare = set(sys.modules); import pycontain;"
        "print(json.dumps(sorted(set(sys.modules) - bare)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True)
    assert set(json.loads(done.stdout)) <= {"pycontain", "__future__"}
