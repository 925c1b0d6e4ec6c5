"""What newcomers do wrong: each mistake is one line that says what is wrong and what to do."""

from __future__ import annotations

import pytest

TYPES = [
    ({"process.args": "echo hi"}, 'process.args = "echo hi" is not a list; write it in [ ]'),
    ({"process.user": "root"}, 'process.user = "root" is not an object; write it as { }'),
    ({"root.readonly": "yes"}, 'root.readonly = "yes" is not true or false; write it without'),
    ({"process.cwd": 1}, "process.cwd = 1 is not a string; write it in quotes"),
    (
        {"linux.resources": {"memory": {"limit": "64m"}}},
        'linux.resources.memory.limit = "64m" is not a whole number; write digits, without quotes',
    ),
]
VALUES = [
    ({"ociVersion": "banana"}, 'ociVersion = "banana" is not a semantic version'),
    ({"ociVersion": "2.0.0"}, 'ociVersion = "2.0.0" is not supported; use 1.0.0 to'),
    ({"ociVersion": None}, "ociVersion is required but missing; add it"),
    ({"root.path": "missing"}, "does not exist; put the root file system there"),
    ({"root.path": "config.json"}, "is not a directory; put the root file system there"),
    ({"process": None}, "process is required by run, but missing"),
    ({"process.args": []}, 'process.args names no program; set it, as in ["sh"]'),
    ({"process.cwd": "tmp"}, 'process.cwd = "tmp" is not an absolute path; begin it with /'),
    ({"process.env": ["FOO"]}, 'process.env[0] = "FOO" has no =; write it as NAME=value'),
    ({"hostname": "x" * 100}, "is longer than 64 bytes; choose a shorter one"),
    ({"linux.namespaces": [{"type": "mnt"}]}, '"mnt" is not one of pid, network, mount'),
    (
        {"linux.namespaces": [{"type": "uts"}, {"type": "ipc", "path": "/run/none"}], "mounts": []},
        "linux.namespaces[].path = /run/none does not exist",
    ),
]
PROC = {"destination": "/proc", "source": "/tmp"}
MOUNTS = [
    ({"destination": "/tmp", "source": "/nope", "options": ["bind"]}, "create it on the host"),
    ({"destination": "/tmp", "source": "/etc"}, 'has no file system type; set "type", or'),
    ({"destination": "/tmp", "type": "ext9"}, "ext9 is not a file system that this kernel"),
    ({"destination": "/tmp", "options": ["bind"]}, "missing from a bind mount; set it to the"),
    (PROC, 'mounts[4].type = none is not proc, but is mounted on /proc'),
]  # fmt: skip
TEXTS = [
    ("", "config.json is not JSON: it is empty; `pycontain spec` writes a complete one"),
    ('{"root": {"path": "x",}}', "(char 22); correct it there, or just before"),
    ("[]", "config.json = [] is not an object; write it as { }"),
]
WORDS = [
    (["rnu"], "rnu is not a command; did you mean run?"),
    (["run"], "run needs ID; see pycontain run --help"),
    (["state", "x", "y"], "y is one argument too many; see pycontain state --help"),
    (["run", "--bundel", "/", "x"], "--bundel is not a flag; did you mean --bundle?"),
    (["run", "--log", "x", "x"], "--log is not a flag; it is a global flag: write it before"),
    (["run", "--bundle", "/nope", "x"], "/nope/config.json does not exist; give the bundle's"),
    (["run", "--config", "/nope", "x"], "--config = /nope does not exist"),
    (["kill", "x"], "container = x does not exist; `pycontain list` shows the containers in"),
    (["delete", "a/b"], "id = 'a/b' is not a container id; use letters, digits"),
    (["events", "--interval", "soon", "x"], "is not a duration; write 5s, 1m30s or 250ms"),
    (["list", "--format", "yaml"], "--format = yaml is not one of table, json"),
    (["--log", "/nope/log", "list"], "log: /nope/log does not exist"),
]


@pytest.mark.parametrize(("changes", "said"), TYPES + VALUES, ids=lambda value: str(value)[:50])
def test_a_wrong_value_is_an_error_with_its_remedy(runtime, bundle, changes, said):
    made = bundle("true")
    config = made.config
    for path, value in changes.items():
        if value is None:
            del config[path]
    made.write(config)
    made.edit({path: value for path, value in changes.items() if value is not None})
    assert said in runtime.fails(made)


@pytest.mark.parametrize(("mount", "said"), MOUNTS, ids=lambda value: str(value)[:50])
def test_a_wrong_mount_is_an_error_with_its_remedy(runtime, bundle, mount, said):
    made = bundle("true")
    made.edit({"mounts": [*made.config["mounts"], mount]})
    assert said in runtime.fails(made)


@pytest.mark.parametrize(("text", "said"), TEXTS)
def test_a_configuration_that_is_not_json_is_an_error_with_its_position(
    runtime, bundle, text, said
):
    made = bundle("true")
    (made.path / "config.json").write_text(text)
    assert said in runtime.fails(made)


@pytest.mark.parametrize(("words", "said"), WORDS, ids=lambda value: " ".join(value)[:50])
def test_a_wrong_command_line_is_an_error_with_its_remedy(runtime, words, said):
    assert said in runtime.refuses(*words)


def test_commands_in_the_wrong_order_are_errors_with_their_remedy(runtime, bundle):
    """Each error says what to do next."""
    made = bundle("sleep 1000")
    id = runtime.create(made)
    again = runtime.refuses("create", "-b", made.path, id)
    assert "exists already; choose another id, or delete it" in again
    assert "is created, not paused; start it first" in runtime.refuses("resume", id)
    runtime.ok("start", id)
    assert "is running, not created\n" in runtime.refuses("start", id)
    running = runtime.refuses("delete", id)
    assert "is running, not created or stopped; kill it first, or use --force" in running
    runtime.ok("pause", id)
    assert "is paused, not created or running; resume it first" in runtime.refuses("pause", id)
    runtime.ok("resume", id)
    runtime.ok("kill", id, "KILL")
    runtime.wait_for_status(id, "stopped")
    for words in (["exec", id, "true"], ["start", id], ["kill", id]):
        said = runtime.refuses(*words)
        assert said.endswith("container not running; delete it, and create it again\n")


def test_a_container_without_a_cgroup_can_mount_that_of_the_caller(runtime, bundle):
    """Its mount was "bind cgroup: open: does not exist"."""
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup2"}
    made = bundle("ls /sys/fs/cgroup")
    made.edit({"mounts": [*made.config["mounts"], mount]})
    words = ["--cgroup-manager", "disabled", "run", "-b", made.path, runtime.new_id()]
    assert "cgroup.procs" in runtime.ok(*words).words
