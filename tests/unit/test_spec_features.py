"""The features document is the one in data/features.json, on every host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pycontain.spec import check, features, parse
from tests.unit.spec_configs import MINIMAL, edited

GOLDEN = Path(__file__).parent / "data" / "features.json"
MOUNT_OPTIONS = ("ro", "bind", "rprivate")


def document():
    return features.features(MOUNT_OPTIONS)


@pytest.mark.property("life-cycle 26")
def test_the_features_are_those_of_the_golden_document() -> None:
    assert document() == json.loads(GOLDEN.read_text())


def test_no_value_of_the_features_is_null() -> None:
    assert "null" not in GOLDEN.read_text()


def test_the_oldest_and_newest_versions_of_the_features_are_accepted() -> None:
    for name in ("ociVersionMin", "ociVersionMax"):
        config = edited(MINIMAL, "ociVersion", document()[name])
        assert check.problems(parse.parse(json.dumps(config))) == []


def problems_with(path, value):
    return check.problems(parse.parse(json.dumps(edited(MINIMAL, path, value))))


def test_every_namespace_of_the_features_is_accepted() -> None:
    namespaces = document()["linux"]["namespaces"]
    listed = [{"type": kind, "path": "/x" if kind == "user" else ""} for kind in namespaces]
    assert problems_with("linux.namespaces", listed) == []


def test_seccomp_accepts_what_the_features_list() -> None:
    seccomp = document()["linux"]["seccomp"]
    for action in seccomp["actions"]:
        given = {"defaultAction": action, "listenerPath": "/run/agent"}
        assert problems_with("linux.seccomp", given) == []
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": seccomp["archs"]}
    assert problems_with("linux.seccomp", {**profile, "flags": seccomp["knownFlags"]}) == []
    assert set(seccomp["supportedFlags"]) == set(seccomp["knownFlags"])
    for operator in seccomp["operators"]:
        arg = {"index": 0, "value": 0, "op": operator}
        rule = {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [arg]}
        assert problems_with("linux.seccomp", {**profile, "syscalls": [rule]}) == []


def test_every_hook_of_the_features_is_accepted() -> None:
    for kind in document()["hooks"]:
        (error,) = problems_with(f"hooks.{kind}", [{"path": "relative"}])
        assert error.fault.at == f"hooks.{kind}[0].path"
