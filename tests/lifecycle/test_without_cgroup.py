"""With `--cgroup-manager disabled` nothing could enforce a limit: each one is an error, or a warning."""

from __future__ import annotations

import json

import pytest

import pycontain
from tests.bundles import look

pytestmark = pytest.mark.needs_root

DISABLED = ("--cgroup-manager", "disabled")
LIMITS = {
    "pids": ({"pids": {"limit": 5}}, "pids.limit"),
    "memory": ({"memory": {"limit": 1 << 26}}, "memory.limit"),
    "cpu": ({"cpu": {"quota": 50000, "period": 100000}}, "cpu.quota"),
    "unified": ({"unified": {"cgroup.max.depth": "5"}}, "cgroup.max.depth"),
}


@pytest.fixture(params=LIMITS)
def limited(request, bundle):
    """(a bundle with a limit, the limit's name)."""
    resources, name = LIMITS[request.param]
    return bundle("true", {"linux.resources": resources}), name


@pytest.mark.parametrize("verb", ["run", "create"])
def test_a_limit_is_an_error(runtime, limited, verb):
    made, name = limited
    before = look()
    said = runtime.refuses(*DISABLED, verb, "-b", made.path, runtime.new_id())
    assert name in said
    assert "disabled" in said
    assert runtime.ids() == []
    assert look() == before


def test_or_a_warning_where_missing_controllers_are(runtime, limited):
    made, name = limited
    words = (*DISABLED, "--cgroup-missing", "warn", "run", "-b", made.path, runtime.new_id())
    said = runtime.ok(*words).err
    assert name in said
    assert "disabled" in said


def test_the_library_says_so_too(limited, tmp_path):
    made, name = limited
    root, warnings = str(tmp_path / "state"), []
    options = pycontain.Options(root=root, cgroup_manager="disabled")
    try:
        with pytest.raises(pycontain.HostError, match=name):
            pycontain.run(made.path, options=options)
        lenient = options.replace(cgroup_missing="warn", warn=warnings.append)
        assert pycontain.run(made.path, options=lenient).status == 0
    finally:
        pycontain.close()
    assert name in " ".join(warnings)


def test_device_rules_are_not_enforced_which_debug_tells(runtime, bundle):
    rules = [{"allow": False, "access": "rwm"}]
    script = "mknod /dev/kmsg2 c 1 11 && (exec 9</dev/kmsg2) && echo opened"
    made = bundle(script, {"linux.resources.devices": rules})
    for flags, opened in ((DISABLED, True), ((), False)):
        done = runtime("--debug", *flags, "run", "-b", made.path, runtime.new_id())
        assert ("opened\n" in done.out) is opened
        told = "linux.resources.devices: 1 rules are not enforced without a cgroup" in done.err
        assert told is opened
    id = runtime.new_id()
    for verb in (("create", "-b", made.path), ("start",), ("delete", "--force")):
        assert runtime.ok(*DISABLED, *verb, id).err == ""


def test_update_has_nothing_to_change(runtime, bundle, tmp_path):
    made = bundle("sleep 100")
    id = runtime.new_id()
    runtime.ok(*DISABLED, "create", "-b", made.path, id)
    wanted = tmp_path / "resources"
    wanted.write_text(json.dumps({"pids": {"limit": 5}}))
    assert "cgroup" in runtime.refuses(*DISABLED, "update", "--resources", wanted, id)
    runtime.ok(*DISABLED, "delete", "--force", id)
