"""What a user without root privileges is told: one line, with what works all the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pycontain.cli import launcher, table
from pycontain.errors import HostError
from tests.bundles import COMMAND, CONFIG, LIMIT

pytestmark = pytest.mark.needs_root

NOBODY = 65534
WITHOUT = [name for name in table.COMMANDS if table.COMMANDS[name].anyone]
CONTAINER = {
    "start": ["start", "c"],
    "exec": ["exec", "c", "true"],
    "kill": ["kill", "c"],
    "delete": ["delete", "c"],
    "delete --force": ["delete", "--force", "c"],
    "state": ["state", "c"],
    "list": ["list"],
    "ps": ["ps", "c"],
    "events": ["events", "--stats", "c"],
    "pause": ["pause", "c"],
    "resume": ["resume", "c"],
    "update": ["update", "--memory", "1m", "c"],
    "checkpoint": ["checkpoint", "c"],
}
"""The commands for containers that exist; their state is root's."""


def as_nobody(command, **how):
    return subprocess.run(
        command, user=NOBODY, group=NOBODY, extra_groups=[], stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=LIMIT, check=False,
        **{"env": {**os.environ, "HOME": str(how.get("cwd", "/nowhere"))}, **how},
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder():
    """A directory of that user's, with a bundle; pytest's own are closed to others."""
    if as_nobody(["ls", *launcher.directories()]).returncode:
        pytest.skip("needs a checkout that other users can read")
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    (made / "rootfs").mkdir()
    (made / "config.json").write_text(json.dumps(CONFIG))
    (made / "roots").mkdir(mode=0o700)
    os.chown(made, NOBODY, NOBODY)
    yield made
    shutil.rmtree(made)


def refused(done):
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("pycontain: ")
    return done.stderr


def test_the_error_names_the_commands_that_need_no_root():
    *first, last = sorted(WITHOUT)
    named = f"without root work {', '.join(first)} and {last}"
    assert HostError.needs_root("x").fault.remedy.endswith(named)


@pytest.mark.parametrize("verb", ["run", "create"])
def test_creating_a_container_where_the_state_is_roots_is_refused_with_a_remedy(folder, verb):
    line = refused(as_nobody([*COMMAND, "--root", folder / "roots", verb, "-b", folder, "c"]))
    assert f"the state in {folder}/roots needs root; use sudo; without root work" in line


@pytest.mark.parametrize("words", CONTAINER.values(), ids=CONTAINER)
def test_the_containers_of_root_are_refused_to_other_users(folder, words):
    line = refused(as_nobody([*COMMAND, "--root", folder / "roots", *words]))
    assert f"the state in {folder}/roots needs root; use sudo; without root work" in line


def test_every_command_is_tried_without_root():
    tried = {"run", "create", *(words[0] for words in CONTAINER.values()), *WITHOUT}
    assert tried | {"restore"} == set(table.COMMANDS)  # that one needs images, which root has


@pytest.mark.parametrize(
    "words",
    [
        ["features"],
        ["plan"],
        ["doctor"],
        ["images"],
        ["image", "--help"],
        ["--help"],
        ["--version"],
        ["run", "--help"],
    ],
    ids=" ".join,
)
def test_commands_that_need_no_root_work(folder, words):
    done = as_nobody([*COMMAND, *words], cwd=folder)
    assert done.stdout
    assert done.stderr == ""


@pytest.mark.needs_userns
def test_doctor_tells_what_is_denied_to_a_user(folder):
    found = json.loads(as_nobody([*COMMAND, "doctor", "--format", "json"], cwd=folder).stdout)
    status = {check["name"]: check["status"] for check in found}
    assert status["user"] == "denied"
    assert status["interpreter"] == "ok", "no container of this user can write to it"


@pytest.mark.parametrize("kind", ["Sandbox", "Pool"])
def test_a_sandbox_of_a_user_is_refused_with_what_works_instead(folder, kind):
    code = f"import pycontain\ntry: pycontain.{kind}()\nexcept pycontain.HostError as e: print(e)"
    env = {"PYTHONPATH": ":".join(launcher.directories())}
    done = as_nobody([sys.executable, "-c", code], cwd=folder, env=env)
    assert (done.stdout, done.stderr) == (
        "a sandbox needs root; use sudo; pycontain.run and pycontain.Container work without root\n",
        "",
    )


def test_spec_writes_to_a_directory_of_the_users_own(folder):
    own = folder / "new"
    own.mkdir()
    os.chown(own, NOBODY, NOBODY)
    assert as_nobody([*COMMAND, "spec", "-b", own]).returncode == 0
    assert "permission denied" in refused(as_nobody([*COMMAND, "spec", "-b", "/"]))


def test_vm_without_root_emulates_and_says_how_to_use_kvm(folder):
    pytest.importorskip("unicorn")
    done = as_nobody([*COMMAND, "vm", "run", "--engine", "emulate", "real"])
    assert done.stdout == "hello from real mode\n"


def test_root_without_a_capability_gets_an_error_that_names_it(runtime, bundle):
    command = runtime.command("run", "-b", bundle().path, runtime.new_id())
    done = subprocess.run(
        ["setpriv", "--bounding-set", "-sys_admin", *command],
        capture_output=True, text=True, check=False, timeout=LIMIT,
    )  # fmt: skip
    assert "spawn: clone3: operation not permitted; grant CAP_SYS_ADMIN" in done.stderr
