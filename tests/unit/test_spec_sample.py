"""The configuration that `pycontain spec` writes."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from pycontain.spec import check, parse, sample


def test_the_sample_has_no_problem() -> None:
    assert check.problems(parse.parse(sample.text())) == []


def test_the_text_is_the_sample_with_a_line_end() -> None:
    assert json.loads(sample.text()) == sample.sample()
    assert sample.text().endswith("}\n")


def test_no_capability_of_the_sample_outlives_a_change_of_user() -> None:
    sets = parse.parse(sample.text()).process.capabilities
    assert sets.bounding == sets.effective == sets.permitted != ()
    assert sets.inheritable == sets.ambient == ()


def test_the_sample_is_equivalent_to_that_of_runc(tmp_path) -> None:
    if shutil.which("runc") is None:
        pytest.skip("runc is missing")
    subprocess.run(["runc", "spec"], cwd=tmp_path, check=True)
    theirs = json.loads((tmp_path / "config.json").read_text())
    ours = sample.sample()
    assert {**ours, **PLACEHOLDER} == {**theirs, **PLACEHOLDER}
    assert ours["mounts"] == theirs["mounts"]
    their_sets, our_sets = theirs["process"]["capabilities"], ours["process"]["capabilities"]
    assert {**theirs["process"], "capabilities": our_sets} == ours["process"]
    assert our_sets.items() <= their_sets.items()  # runc 1.1 has ambient ones, too
    assert_hides_at_least(ours["linux"], theirs["linux"])


# compared one by one
PLACEHOLDER = {"ociVersion": "", "hostname": "", "process": {}, "linux": {}}


def assert_hides_at_least(ours, theirs):
    assert ours["resources"] == theirs["resources"]
    assert ours["readonlyPaths"] == theirs["readonlyPaths"]
    assert set(ours["maskedPaths"]) >= set(theirs["maskedPaths"])
    kinds = {namespace["type"] for namespace in theirs["namespaces"]}
    assert {namespace["type"] for namespace in ours["namespaces"]} == kinds | {"cgroup"}
