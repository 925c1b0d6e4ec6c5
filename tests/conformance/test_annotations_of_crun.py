"""The annotations of crun that Podman's users reach features by."""

from __future__ import annotations

import os

import pytest

pytestmark = pytest.mark.needs_root

GROUPS = "grep Groups /proc/self/status"


def with_groups(groups):
    """What makes a command have these supplementary groups, as an engine's caller may."""
    return lambda: os.setgroups(groups)


@pytest.mark.parametrize("value", ["1", ""])
def test_the_callers_groups_are_kept_on_request(runtime, bundle, value):
    made = bundle(GROUPS, {"process.user.additionalGids": [11]})
    wanted = bundle(GROUPS, {"annotations": {"run.oci.keep_original_groups": value}})
    how = {"preexec_fn": with_groups([7, 8])}
    assert runtime.output(made, **how).words == ["Groups:", "11"]
    assert runtime.output(wanted, **how).words == ["Groups:", "7", "8"]


def test_exec_keeps_the_callers_groups_as_its_container_does(runtime, bundle):
    annotations = {"run.oci.keep_original_groups": "1"}
    container = runtime.started(bundle("echo up; sleep 100", {"annotations": annotations}))
    words = ["exec", container, "sh", "-c", GROUPS]
    done = runtime.ok(*words, preexec_fn=with_groups([9]))
    assert done.words == ["Groups:", "9"]


def test_a_handler_is_refused_by_name(runtime, bundle):
    made = bundle("true", {"annotations": {"run.oci.handler": "krun"}})
    error = runtime.fails(made)
    assert 'annotations[run.oci.handler] = "krun" requests a handler of crun' in error


def test_hooks_of_the_host_write_to_the_named_files(runtime, bundle, tmp_path):
    out, err = tmp_path / "hooks.out", tmp_path / "hooks.err"
    made = bundle("true")
    hook = made.script("hook", "echo to out; echo to err >&2")
    names = {"run.oci.hooks.stdout": str(out), "run.oci.hooks.stderr": str(err)}
    kinds = ("createRuntime", "poststart", "poststop")
    made.edit({"annotations": names, "hooks": {kind: [{"path": str(hook)}] for kind in kinds}})
    runtime.output(made)
    assert out.read_text() == "to out\n" * 3
    assert err.read_text() == "to err\n" * 3


def test_a_file_for_hooks_that_cannot_be_opened_is_named(runtime, bundle):
    made = bundle("true")
    hook = made.script("hook", "true")
    names = {"run.oci.hooks.stdout": "/nowhere/out"}
    made.edit({"annotations": names, "hooks": {"createRuntime": [{"path": str(hook)}]}})
    assert "annotations[run.oci.hooks.stdout] = /nowhere/out" in runtime.fails(made)
