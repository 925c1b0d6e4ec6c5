"""How to end a `create`, `start` or `run` that hangs: delete --force, and kill with SIGKILL."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pycontain.errors import Timeout
from pycontain.kernel.files import start_time
from pycontain.options import Options
from pycontain.runtime import delete
from tests.bundles import LIMIT, Bundle, busybox, wait_until

NAMESPACES = {
    "pid": ["pid", "mount", "uts"],
    "no pid": ["mount", "uts"],  # so that hooks outlive the first process
}
every_namespaces = pytest.mark.parametrize("namespaces", NAMESPACES.values(), ids=NAMESPACES)


def with_hook(bundle, kind: str, namespaces: list[str]) -> Bundle:
    """A bundle with a hook that creates /tmp/hung and fails once /tmp/go exists, or much later."""
    made = bundle("echo up", {"linux.namespaces": [{"type": name} for name in namespaces]})
    shell, root = ("/bin/busybox", "") if kind == "startContainer" else (busybox(), made.rootfs)
    wait = f"for n in $(seq {20 * int(LIMIT)}); do [ -e {root}/tmp/go ] && exit 1; sleep .1; done"
    script = f"touch {root}/tmp/hung; {wait}; exit 1"
    hook = {"path": shell, "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}
    made.edit({"hooks": {kind: [hook]}})
    return made


@contextmanager
def hanging(runtime, made: Bundle, *words) -> Iterator[subprocess.Popen]:
    """A command that hangs in its hook; at the end it must have failed with a one-line error."""
    with subprocess.Popen(
        runtime.command(*words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        try:
            wait_until((made.rootfs / "tmp/hung").exists, "the hook hangs")
            yield command
            said = command.communicate(timeout=LIMIT)[1]
        finally:
            (made.rootfs / "tmp/go").touch()  # otherwise a failing test leaves the hook running
            command.kill()
    assert command.returncode == 1
    assert said.startswith("pycontain: ")
    assert said.count("\n") == 1, said


@every_namespaces
def test_forced_delete_ends_a_start_that_hangs(runtime, bundle, namespaces):
    made = with_hook(bundle, "startContainer", namespaces)
    id = runtime.create(made)
    with hanging(runtime, made, "start", id):
        runtime.ok("delete", "--force", id)
        assert runtime.ids() == []


@pytest.mark.parametrize(
    ("verb", "kind", "status"),
    [("create", "createContainer", "creating"), ("run", "startContainer", "running")],
)
@every_namespaces
def test_forced_delete_ends_a_creation_that_hangs(runtime, bundle, namespaces, verb, kind, status):
    made = with_hook(bundle, kind, namespaces)
    id = runtime.new_id()
    with hanging(runtime, made, verb, "-b", made.path, id):
        assert runtime.state(id)["status"] == status
        runtime.ok("delete", "--force", id)
        assert runtime.ids() == []


@every_namespaces
def test_kill_ends_a_create_that_hangs_and_no_other_signal_does(runtime, bundle, namespaces):
    made = with_hook(bundle, "createContainer", namespaces)
    id = runtime.new_id()
    with hanging(runtime, made, "create", "-b", made.path, id):
        for name in ("TERM", "STOP", "0"):
            assert "is creating, not created" in runtime.refuses("kill", id, name)
        assert runtime.state(id)["status"] == "creating"
        runtime.ok("kill", id, "KILL")
    assert runtime.ids() == []


def test_kill_fails_before_the_first_process_exists(runtime, bundle):
    id = runtime.create(bundle("echo up"))
    (runtime.root / id / "process").unlink()  # as before the first process was created
    assert "container not running" in runtime.refuses("kill", id, "KILL")


def test_forced_delete_reports_a_hanging_hook_on_the_host(runtime, bundle, monkeypatch):
    made = with_hook(bundle, "createRuntime", NAMESPACES["pid"])
    monkeypatch.setattr(delete, "_PATIENCE", 0.3)
    id = runtime.new_id()
    with hanging(runtime, made, "create", "-b", made.path, id):
        pid = runtime.state(id)["pid"]
        with pytest.raises(Timeout, match="is still locked by another command") as caught:
            delete.delete(Options(root=str(runtime.root)), id, force=True)
        assert "a create whose hook hangs" in caught.value.fault.remedy
        assert start_time(pid) == 0, "the first process was killed anyway"
        (made.rootfs / "tmp/go").touch()
    assert runtime.ids() == []
