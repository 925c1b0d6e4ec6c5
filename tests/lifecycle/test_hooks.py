"""config.md, POSIX-platform Hooks: when and where they run, what they receive, how they fail."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pycontain.errors import HookError
from pycontain.hooks import run_hook
from pycontain.kernel.files import start_time
from pycontain.spec.records import Hook
from tests.bundles import Bundle

KINDS = (
    "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
)  # fmt: skip
IN_CONTAINER = ("createContainer", "startContainer")
FATAL = KINDS[:-1]


def with_hooks(
    bundle: Any, hooks: Mapping[str, list[str]], script: str = "echo program >>/log"
) -> Bundle:
    """
    A bundle with shell scripts as hooks, which see its rootfs as $ROOT and write $ROOT/log.

    startContainer hooks are looked up in the container: they get busybox and "" as $ROOT.
    """
    made = bundle(script)
    config: dict[str, list[dict[str, object]]] = {}
    for kind, texts in hooks.items():
        config[kind] = []
        for text in texts:
            shell, root = (
                ("/bin/sh", "") if kind == "startContainer" else ("/bin/busybox", str(made.rootfs))
            )
            args = ["sh", "-c", text] if kind == "startContainer" else ["busybox", "sh", "-c", text]
            hook = {"path": shell, "args": args, "env": [f"ROOT={root}", "PATH=/bin:/usr/bin"]}
            config[kind].append(hook)
    made.edit({"hooks": config})
    return made


def log(made: Bundle) -> list[str]:
    """What hooks and program have written, in order."""
    file = made.rootfs / "log"
    return file.read_text().split() if file.exists() else []


def writes(word: str) -> str:
    """A hook that writes one word."""
    return f"echo {word} >>$ROOT/log"


ALL = {kind: [writes(f"{kind}-1"), writes(f"{kind}-2")] for kind in KINDS}


@pytest.mark.property("life-cycle 9", "life-cycle 20")
def test_hooks_run_in_their_order_with_run(runtime, bundle):
    made = with_hooks(
        bundle, ALL, "echo program >>/log; while [ ! -e /tmp/go ]; do sleep .01; done"
    )
    made.edit(
        {
            "hooks.poststart[1].args": [
                "busybox",
                "sh",
                "-c",
                f"{writes('poststart-2')}; touch $ROOT/tmp/go",
            ]
        }
    )
    runtime.output(made)
    found = log(made)
    assert [word for word in found if word != "program"] == [
        f"{kind}-{number}" for kind in KINDS for number in (1, 2)
    ]
    assert found.index("startContainer-2") < found.index("program") < found.index("poststop-1")


@pytest.mark.property(
    "hooks",
    "hooks.prestart",
    "hooks.createRuntime",
    "hooks.createContainer",
    "hooks.startContainer",
    "hooks.poststart",
    "hooks.poststop",
    "life-cycle 9",
)
def test_hooks_run_in_their_order_with_create_start_and_delete(runtime, bundle):
    made = with_hooks(bundle, ALL, "echo program >>/log")
    id = runtime.create(made)
    early = [f"{kind}-{number}" for kind in KINDS[:3] for number in (1, 2)]
    assert log(made) == early
    runtime.ok("start", id)
    runtime.wait_for_status(id, "stopped")
    found = log(made)
    assert sorted(found[6:]) == sorted(
        ["startContainer-1", "startContainer-2", "program", "poststart-1", "poststart-2"]
    )
    assert found[6:8] == ["startContainer-1", "startContainer-2"]
    runtime.ok("delete", id)
    assert log(made)[-2:] == ["poststop-1", "poststop-2"]


SHOW = "cat >$ROOT/state-{0}; for n in pid mnt net; do readlink /proc/self/ns/$n; done >$ROOT/ns-{0}; readlink /proc/self/root >>$ROOT/ns-{0}"


@pytest.mark.property("hooks.*[].path", "life-cycle 4", "life-cycle 20")
def test_hooks_receive_the_state_and_run_in_their_namespaces(runtime, bundle):
    made = with_hooks(bundle, {kind: [SHOW.format(kind)] for kind in KINDS}, "echo up; sleep 100")
    made.edit({"annotations": {"org.example.a": "b"}})
    id = runtime.started(made)
    pid = runtime.state(id)["pid"]
    inside = [os.readlink(f"/proc/{pid}/ns/{name}") for name in ("pid", "mnt", "net")]
    outside = [os.readlink(f"/proc/self/ns/{name}") for name in ("pid", "mnt", "net")]
    runtime.ok("delete", "--force", id)
    status = {
        "prestart": "creating",
        "createRuntime": "creating",
        "createContainer": "creating",
        "startContainer": "created",
        "poststart": "running",
        "poststop": "stopped",
    }
    for kind in KINDS:
        state = json.loads((made.rootfs / f"state-{kind}").read_text())
        seen_pid = {"poststop": 0, **dict.fromkeys(IN_CONTAINER, 1)}.get(kind, pid)
        assert state == {
            "ociVersion": "1.2.0",
            "id": id,
            "status": status[kind],
            "pid": seen_pid,
            "bundle": str(made.path),
            "annotations": {"org.example.a": "b"},
        }, kind
        *namespaces, _ = (made.rootfs / f"ns-{kind}").read_text().split()
        assert namespaces == (inside if kind in IN_CONTAINER else outside), kind


def test_early_hooks_can_reach_the_namespaces_by_the_pid_in_the_state(runtime, bundle):
    made = bundle("ip -o addr show lo")
    hook = made.script(
        "hook",
        """
        pid=$(grep -o '"pid":[ 0-9]*' | grep -o '[0-9]*')
        nsenter -t $pid -n ip addr add 192.0.2.9/32 dev lo
    """,
    )
    env = [f"PATH={os.environ['PATH']}:/sbin:/usr/sbin"]
    made.edit({"hooks": {"createRuntime": [{"path": str(hook), "env": env}]}})
    assert "192.0.2.9" in runtime.output(made).out


def test_create_container_hooks_see_the_host_files_and_the_containers_mounts(runtime, bundle):
    text = 'test -e $ROOT/../config.json && grep -c " $ROOT/dev/shm " /proc/self/mountinfo >$ROOT/count'
    made = with_hooks(bundle, {"createContainer": [text]})
    runtime.output(made)
    assert (made.rootfs / "count").read_text() == "1\n"


@pytest.mark.property("hooks.*[].args", "hooks.*[].env")
def test_a_hook_has_its_own_arguments_and_environment(runtime, bundle):
    made = bundle()
    show = made.script("show", 'echo "$0" "$@" >out; env >>out')
    hook = {"path": str(show), "args": ["zero", "one", "t wo"], "env": ["A=1"]}
    made.edit({"hooks": {"createRuntime": [hook]}})
    runtime.output(made, cwd=made.path, env={"SECRET": "of the caller"})
    first, *env = (made.path / "out").read_text().splitlines()
    assert first == f"{show} one t wo"
    assert "A=1" in env
    assert not any(line.startswith("SECRET") for line in env)


def test_a_hook_without_arguments_gets_its_path(runtime, bundle):
    made = bundle()
    made.edit({"hooks": {"createRuntime": [{"path": "/bin/true"}, {"path": "/bin/false"}]}})
    line = runtime.fails(made)
    assert re.search(
        "error running createRuntime hook #1: /bin/false exited with status 1 after [0-9]+ ms$",
        line,
    )


def test_a_hook_that_does_not_read_its_input_and_writes_much_does_not_hang(runtime, bundle):
    made = with_hooks(bundle, {"createRuntime": ["head -c 1000000 /dev/zero", writes("done")]})
    made.edit({"annotations": {f"a{number}": "x" * 1000 for number in range(300)}})
    runtime.output(made)
    assert log(made) == ["done", "program"]


# --- failure -------------------------------------------------------------------------------------


def failing(kind: str) -> dict[str, list[str]]:
    """Hooks of which the second of one kind fails."""
    return {
        "createRuntime": [writes("createRuntime")],
        "poststop": [writes("poststop")],
        kind: [writes("before"), "echo first line; echo the reason >&2; exit 3", writes("after")],
    }


@pytest.mark.property("life-cycle 10", "life-cycle 12")
@pytest.mark.parametrize("kind", FATAL)
def test_a_hook_that_fails_ends_the_container(runtime, bundle, kind):
    made = with_hooks(bundle, failing(kind), "sleep 100")
    id = runtime.new_id()
    if kind in ("startContainer", "poststart"):
        runtime.ok("create", "-b", made.path, id)
        line = runtime.refuses("start", id)
    else:
        line = runtime.refuses("create", "-b", made.path, id)
    assert f"error running {kind} hook #1: " in line
    assert re.search(r"exited with status 3 after [0-9]+ ms: first line \| the reason", line)
    assert runtime.ids() == []
    found = log(made)
    assert "before" in found
    assert "after" not in found
    assert found[-1] == "poststop"


@pytest.mark.parametrize("kind", FATAL)
def test_a_hook_that_fails_ends_run(runtime, bundle, kind):
    made = with_hooks(bundle, failing(kind), "sleep 100")
    assert f"error running {kind} hook #1: " in runtime.fails(made)
    assert runtime.ids() == []
    assert log(made)[-1] == "poststop"
    assert log(made).count("poststop") == 1


@pytest.mark.parametrize("kind", FATAL[:-1])
def test_after_a_hook_has_failed_the_program_has_not_run(runtime, bundle, kind):
    made = with_hooks(bundle, failing(kind))
    runtime.fails(made)
    assert "program" not in log(made)


@pytest.mark.property("life-cycle 11")
@pytest.mark.parametrize("verb", ["run", "delete"])
def test_a_poststop_hook_that_fails_is_a_warning_and_the_others_run(runtime, bundle, verb):
    made = with_hooks(
        bundle, {"poststop": [writes("one"), "echo why; exit 4", writes("three")]}, "exit 0"
    )
    if verb == "run":
        done = runtime.run(made)
    else:
        id = runtime.started(made)
        runtime.wait_for_status(id, "stopped")
        done = runtime("delete", id)
    assert done.status == 0
    assert done.err.startswith("pycontain: warning: ")
    assert "error running poststop hook #1: " in done.err
    assert re.search("exited with status 4 after [0-9]+ ms: why", done.err)
    assert log(made) == ["one", "three"]
    assert runtime.ids() == []


@pytest.mark.property("hooks.*[].timeout")
@pytest.mark.parametrize(
    "kind", ["createRuntime", "createContainer", "startContainer", "poststart"]
)
def test_a_hook_that_takes_longer_than_its_timeout_is_killed(runtime, bundle, kind):
    made = with_hooks(bundle, {kind: ["echo still here; exec sleep 100"]}, "sleep 100")
    made.edit({f"hooks.{kind}[0].timeout": 1})
    line = runtime.fails(made)
    assert f"error running {kind} hook #0: " in line
    assert "ran longer than its timeout of 1 s: still here" in line


def test_a_hook_within_its_timeout_is_no_error(runtime, bundle):
    made = with_hooks(bundle, {kind: ["true"] for kind in KINDS}, "true")
    made.edit({f"hooks.{kind}[0].timeout": 50 for kind in KINDS})
    runtime.output(made)


def test_a_startcontainer_hook_has_the_environment_of_the_program(runtime, bundle):
    made = bundle("true")
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "echo $WHERE $HOME >/seen"]}
    made.edit({"hooks": {"startContainer": [hook]}})
    made.edit({"process.env": ["WHERE=inside", "HOME=/there"]})
    runtime.output(made, env={**os.environ, "WHERE": "outside"})
    assert (made.rootfs / "seen").read_text() == "inside /there\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/does/not/exist", "does not exist"),
        ("/plain", "permission denied"),
    ],
)
@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer"])
def test_a_hook_that_cannot_be_executed_is_named(runtime, bundle, kind, text, words):
    made = bundle()
    if kind != "startContainer":
        text = f"{made.rootfs}{text}"
    (made.rootfs / "plain").touch()
    made.edit({"hooks": {kind: [{"path": text}]}})
    line = runtime.fails(made)
    assert f"error running {kind} hook #0: {text} cannot be executed: {words}" in line


def test_the_error_of_a_killed_hook_has_the_number_of_the_signal(runtime, bundle):
    made = with_hooks(bundle, {"createRuntime": ["kill -SEGV $$"]})
    assert "was killed by signal 11" in runtime.fails(made)


def test_hooks_get_default_signals_and_no_descriptors(runtime, bundle):
    show = "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status | cut -f2; ls /proc/self/fd"
    made = with_hooks(bundle, {kind: [f"({show}) >$ROOT/see-{kind}"] for kind in KINDS})
    runtime.output(made)
    for kind in KINDS:
        blocked, ignored, caught, *fds = (made.rootfs / f"see-{kind}").read_text().split()
        of_libc = 0x1_8000_0000  # 32 and 33, which posix_spawn(3) of glibc leaves ignored
        assert (int(blocked, 16), int(ignored, 16) & ~of_libc) == (0, 0), kind
        assert set(fds) <= {"0", "1", "2", "3"}, f"{kind}: 3 is the listing itself"
        assert caught


def test_hooks_on_the_host_get_no_descriptor_of_the_caller(runtime, bundle):
    """The program gets those of --preserve-fds."""
    on_host = [kind for kind in KINDS if kind not in IN_CONTAINER]
    hooks = {kind: [f"ls /proc/self/fd >$ROOT/see-{kind}"] for kind in on_host}
    made = with_hooks(bundle, hooks, "echo hello >&3; ls /proc/self/fd >/log")
    command = runtime.command("run", "-b", made.path, "--preserve-fds", "1", runtime.new_id())
    shell = ["sh", "-c", 'exec "$@" 3>third 7>seventh', "sh"]
    subprocess.run([*shell, *command], cwd=made.path, check=True)
    assert (made.path / "third").read_text() == "hello\n"
    assert log(made) == ["0", "1", "2", "3", "4"], "4 is the listing itself"
    for kind in on_host:
        assert (made.rootfs / f"see-{kind}").read_text().split() == ["0", "1", "2", "3"], kind


def test_the_descriptors_of_a_program_that_runs_hooks_are_unchanged():
    """The library runs poststop hooks in the program that uses it."""
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    show = Hook(at="", path="/bin/sh", args=("sh", "-c", f"test ! -e /proc/self/fd/{reader}"))
    run_hook(show, {}, "/")
    assert os.get_inheritable(reader)
    os.close(reader)
    os.close(writer)


def test_a_state_too_large_for_a_pipe_is_an_error():
    """A hook could not tell that it read only half of it."""
    if os.geteuid() == 0 and _may_exceed_pipe_limit():
        pytest.skip("needs a host without CAP_SYS_RESOURCE")
    most = int(Path("/proc/sys/fs/pipe-max-size").read_text())
    hook = Hook(at="", path="/bin/true", args=())
    fds = os.listdir("/proc/self/fd")
    run_hook(hook, {"x": "x" * (most - 100)}, "/")
    with pytest.raises(HookError, match="cannot be given the state: operation not permitted"):
        run_hook(hook, {"x": "x" * most}, "/")
    assert os.listdir("/proc/self/fd") == fds


def _may_exceed_pipe_limit() -> bool:
    effective = Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0]
    return bool(int(effective, 16) >> 24 & 1)


def test_after_a_failed_poststart_hook_the_program_has_ended(runtime, bundle):
    made = with_hooks(bundle, {"poststart": ["exit 1"]}, "touch /log; sleep 100")
    id = runtime.create(made)
    pid = runtime.state(id)["pid"]
    runtime.refuses("start", id)
    assert start_time(pid) == 0, "the process has ended"


def test_a_createContainer_hook_runs_in_the_root_file_system(runtime, bundle):
    made = bundle("cat /made/here", {})
    hook = made.script("hook", "mkdir made && echo yes >made/here")
    made.edit({"hooks": {"createContainer": [{"path": str(hook), "env": ["PATH=/bin:/usr/bin"]}]}})
    assert runtime.output(made).words == ["yes"]


def test_the_error_of_a_killed_hook_has_the_name_of_the_signal(runtime, bundle):
    made = with_hooks(bundle, {"createRuntime": ["kill -SYS $$"]})
    assert "was killed by signal 31 (bad system call) after" in runtime.fails(made)
