"""The features document is the one in data/features.json, on every host."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import pycontain
from pycontain.spec import check, features, names, parse
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


BASE = edited(MINIMAL, "process", {"cwd": "/", "args": ["true"]})


def problems_with(path, value, config=BASE):
    return check.problems(parse.parse(json.dumps(edited(config, path, value))))


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


def test_every_capability_of_the_features_is_accepted() -> None:
    listed = document()["linux"]["capabilities"]
    sets = dict.fromkeys(("bounding", "permitted", "effective"), listed)
    assert problems_with("process.capabilities", sets) == []
    assert set(listed) == set(names.CAPABILITIES)


def test_every_part_that_the_features_call_enabled_is_accepted() -> None:
    linux = document()["linux"]
    asked = {
        "apparmor": ("process.apparmorProfile", "some-profile"),
        "selinux": ("process.selinuxLabel", "u:r:t:s0"),
        "netDevices": ("linux.netDevices", {"pct9": {"name": "eth0"}}),
    }
    spaces = edited(BASE, "linux.namespaces", [{"type": "network"}, {"type": "mount"}])
    for part, (path, value) in asked.items():
        assert linux[part] == {"enabled": True}
        assert problems_with(path, value, spaces) == [], part
    rdt = {"closID": "c", "schemata": ["L3:0=f"], "enableMonitoring": True}
    assert linux["intelRdt"] == {"enabled": True, "schemata": True, "monitoring": True}
    assert problems_with("linux.intelRdt", rdt) == []
    for mode in linux["memoryPolicy"]["modes"]:
        nodes = {} if mode in ("MPOL_DEFAULT", "MPOL_LOCAL") else {"nodes": "0"}
        assert problems_with("linux.memoryPolicy", {"mode": mode, **nodes}) == []
    ids = [{"containerID": 0, "hostID": 1000, "size": 10}]
    mapped = {"destination": "/x", "source": "/x", "options": ["bind"]}
    mapped |= {"uidMappings": ids, "gidMappings": ids}
    assert linux["mountExtensions"]["idmap"]["enabled"]
    assert problems_with("mounts", [mapped], spaces) == []


def test_each_annotation_that_the_source_reads_is_listed_as_potentially_unsafe() -> None:
    listed = tuple(document()["potentiallyUnsafeConfigAnnotations"])
    literal = re.compile(r'"((?:run|org)\.[a-z]+\.[a-z_.]+)"')
    sources = Path(pycontain.__file__).parent.rglob("*.py")
    found = {name for source in sources for name in literal.findall(source.read_text())}
    assert {"run.oci.handler", "run.oci.hooks.stdout", "org.systemd.property."} <= found
    others = ("org.freedesktop.", "org.opencontainers.image.", "org.opencontainers.runc.")
    assert [name for name in found if not name.startswith((*listed, *others))] == []
