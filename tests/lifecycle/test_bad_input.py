"""Bad input gives a clear one-line error and a nonzero status, and leaves nothing behind."""

from __future__ import annotations

import json

import pytest

from tests.bundles import CONFIG

# content of config.json, text in the error
TEXTS = [
    ("", "config.json"),
    ("{", "config.json"),
    ("[]", "config.json"),
    ("null", "config.json"),
    ("{}", "ociVersion"),
    ('{"ociVersion": "1.0.2"}', "root"),
    ('{"ociVersion": "1.0.2", "root": {}}', "root.path"),
    ('{"ociVersion": 1, "root": {"path": "rootfs"}}', "ociVersion"),
    ('{"ociVersion": "1.0.2", "root": "rootfs"}', "root"),
    ('{"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "ociVersion": "\\ud800"}', ""),
    ("{'a': 1}", "config.json"),
    ('{"ociVersion": "1.0.2",}', "config.json"),
    ("\xff\xfe", "UTF-8"),
    ("[" * 100_000, "config.json"),
    ('{"ociVersion": ' + "9" * 5000 + "}", ""),
]


@pytest.mark.parametrize(("text", "words"), TEXTS, ids=lambda value: value[:40])
def test_broken_json_is_an_error_of_one_line(runtime, bundle, text, words):
    made = bundle()
    (made.path / "config.json").write_bytes(text.encode("latin-1"))
    line = runtime.fails(made)
    assert words in line
    assert len(line) < 1000
    assert not runtime.ids()


# JSON path, value, text in the error
VALUES = [
    ("ociVersion", "invalid", "ociVersion"),
    ("ociVersion", "2.0.0", "ociVersion"),
    ("ociVersion", "", "ociVersion"),
    ("root.path", "/does/not/exist", "/does/not/exist does not exist"),
    ("root.path", "config.json", "is not a directory"),
    ("root.path", 3, "root.path"),
    ("root.readonly", "yes", "root.readonly"),
    ("process", [], "process"),
    ("process.args", "sh", "process.args"),
    ("process.args", ["sh", 1], "process.args[1]"),
    ("process.args", ["a\0b"], "process.args"),
    ("process.cwd", "", "process.cwd"),
    ("process.user.uid", -1, "process.user.uid"),
    ("process.user.uid", 2**32, "process.user.uid"),
    ("process.user.uid", "0", "process.user.uid"),
    ("process.user.uid", 1.5, "process.user.uid"),
    ("process.user.uid", True, "process.user.uid"),
    ("process.terminal", 1, "process.terminal"),
    ("hostname", 5, "hostname"),
    ("mounts", {}, "mounts"),
    ("mounts[0].options", "ro", "mounts[0].options"),
    ("mounts[0].destination", "", "mounts[0].destination"),
    ("hooks", {"createRuntime": [{"path": "relative"}]}, "hooks.createRuntime[0].path"),
    ("hooks", {"createRuntime": [{"path": "/x", "timeout": 0}]}, "hooks.createRuntime[0].timeout"),
    ("hooks", {"createRuntime": {}}, "hooks.createRuntime"),
    ("annotations", {"": "x"}, "annotations"),
    ("annotations", {"a": 1}, "annotations"),
    ("linux", [], "linux"),
    ("linux.rootfsPropagation", "sideways", "linux.rootfsPropagation"),
    ("linux.uidMappings", [{"containerID": 0, "hostID": 0, "size": 1}], "user namespace"),
    ("linux.namespaces", [{"type": "user"}, {"type": "mount"}], "linux.uidMappings"),
    ("linux.intelRdt", {"closID": "x"}, "resctrl"),
    ("linux.memoryPolicy", {"mode": "MPOL_BIND"}, "linux.memoryPolicy.nodes"),
    ("linux.mountLabel", "x", "linux.mountLabel"),
    ("linux.netDevices", {"a/b": {}}, "linux.netDevices[a/b]"),
    ("linux.netDevices", {"pcnone0": {"name": "x y"}}, "linux.netDevices[pcnone0].name"),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_MAYBE"}, "linux.seccomp.defaultAction"),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_NOTIFY"}, "linux.seccomp.listenerPath"),
]  # fmt: skip


@pytest.mark.property("life-cycle 7", "life-cycle 21")
@pytest.mark.parametrize(("path", "value", "words"), VALUES, ids=lambda value: str(value)[:40])
def test_a_wrong_value_is_named_by_its_path(runtime, bundle, path, value, words):
    made = bundle("", {path: value})
    for line in (runtime.fails(made), runtime.refuses("create", "-b", made.path, runtime.new_id())):
        assert words in line
        assert "no such file or directory" not in line.lower()
    assert not runtime.ids()


@pytest.mark.parametrize("command", ["create", "run"])
def test_a_bundle_without_config_json_is_named(runtime, tmp_path, command):
    line = runtime.refuses(command, "-b", tmp_path, runtime.new_id())
    assert f"{tmp_path}/config.json does not exist" in line


@pytest.mark.property("life-cycle 1")
def test_config_json_has_exactly_that_name(runtime, bundle):
    made = bundle("echo ran")
    (made.path / "config.json").rename(made.path / "Config.json")
    assert "config.json does not exist" in runtime.fails(made)
    assert runtime.output(made, "--config", "Config.json").out == "ran\n"


def test_a_bundle_that_does_not_exist_is_named(runtime):
    assert "/does/not/exist" in runtime.refuses("run", "-b", "/does/not/exist", runtime.new_id())


@pytest.mark.property("process.commandLine", "process.user.username", "life-cycle 21")
def test_unknown_properties_are_ignored(runtime, bundle):
    changes = {
        "x-new": {"deep": [1]},
        "process.future": True,
        "linux.soon": "x",
        "vm": {},
        "zos": {},
    }
    assert runtime.output(bundle("echo ran", changes)).out == "ran\n"


def test_a_property_that_is_null_counts_as_absent(runtime, bundle):
    changes = {"hooks": None, "annotations": None, "linux.seccomp": None, "domainname": None}
    assert runtime.output(bundle("echo ran", changes)).out == "ran\n"


@pytest.mark.property("ociVersion", "life-cycle 22")
@pytest.mark.parametrize(
    "version", ["1.0.0", "1.0.2-dev", "1.1.0+dev", "1.3.0", "1.0.0-rc5", "1.99.0"]
)
def test_versions_of_the_specification_since_1_0_are_accepted(runtime, bundle, version):
    assert runtime.output(bundle("echo ran", {"ociVersion": version})).out == "ran\n"


@pytest.mark.parametrize(
    "words",
    [
        ["frobnicate"],
        ["run", "--bundel", "."],
        ["run", "a", "b"],
        ["run", "--preserve-fds", "x", "a"],
        ["--log-format", "xml", "state", "a"],
        ["--systemd-cgroup", "state", "a"],
        ["checkpoint", "--manage-cgroups-mode", "full", "a"],
        ["kill", "a", "SIGNOTHING"],
    ],
    ids=" ".join,
)
def test_an_invalid_command_line_is_refused(runtime, words):
    runtime.refuses(*words)


def test_a_preserved_descriptor_that_is_closed_is_refused(runtime, bundle):
    line = runtime.fails(bundle(), "--preserve-fds", "2")
    assert "--preserve-fds = 2" in line


def test_run_without_a_process_in_the_configuration_is_refused(runtime, bundle):
    made = bundle()
    config = {key: value for key, value in CONFIG.items() if key != "process"}
    (made.path / "config.json").write_text(json.dumps(config))
    assert "process" in runtime.fails(made)
