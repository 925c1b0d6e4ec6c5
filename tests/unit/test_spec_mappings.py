"""User namespaces and id-mapped mounts: what is valid. config-linux.md, User namespace mappings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pycontain.errors import SpecError
from pycontain.spec import check, parse, records
from tests.unit.spec_configs import edited

MAPPING = {"containerID": 0, "hostID": 100_000, "size": 1000}
CONFIG: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "root": {"path": "rootfs"},
    "process": {"cwd": "/", "args": ["sh"], "user": {"uid": 5, "gid": 6, "additionalGids": [7]}},
    "mounts": [
        {"destination": "/dev/pts", "type": "devpts", "options": ["gid=5"]},
        {"destination": "/data", "source": "/srv", "options": ["rbind"]},
    ],
    "linux": {
        "namespaces": [{"type": "user"}, {"type": "mount"}, {"type": "pid"}],
        "uidMappings": [MAPPING],
        "gidMappings": [MAPPING],
        "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "uid": 9, "gid": 9}],
    },
}
BOTH = {"uidMappings": [MAPPING], "gidMappings": [MAPPING]}


def problems_of(config: dict[str, Any]) -> list[SpecError]:
    return check.problems(parse.parse(json.dumps(config)))


def test_a_user_namespace_with_mappings_has_no_problem():
    assert problems_of(CONFIG) == []


def test_a_user_namespace_that_is_joined_needs_no_mappings():
    config = edited(CONFIG, "linux.namespaces[0].path", "/proc/7/ns/user")
    assert problems_of(config) == []  # they must be those that it has
    for key in ("uidMappings", "gidMappings"):
        config = edited(config, f"linux.{key}", [])
    assert problems_of(config) == []


# (changed property, its value, the error's path or "" for the same, a part of its text)
BROKEN: list[tuple[str, object, str, str]] = [
    ("linux.uidMappings", [], "", "required by the user namespace, but missing"),
    ("linux.gidMappings", [], "", "required by the user namespace, but missing"),
    ("linux.namespaces[0].type", "uts", "linux.uidMappings", "without a user namespace"),
    ("linux.uidMappings[0].containerID", 5, "linux.uidMappings", "does not map id 0"),
    ("linux.uidMappings[0].size", 0, "", "is 0"),
    ("linux.uidMappings[0].size", 2**32 - 1, "linux.uidMappings[0].hostID", "beyond the last id"),
    (
        "linux.uidMappings[1]", {**MAPPING, "hostID": 5}, "linux.uidMappings[1].containerID",
        "overlaps with linux.uidMappings[0].containerID",
    ),
    (
        "linux.gidMappings[1]", {**MAPPING, "containerID": 1000, "hostID": 100_999},
        "linux.gidMappings[1].hostID", "overlaps with linux.gidMappings[0].hostID",
    ),
    (
        "linux.uidMappings", [{"containerID": i, "hostID": i, "size": 1} for i in range(341)], "",
        "more than 340",
    ),
    ("process.user.uid", 1000, "", "not mapped into the user namespace; use an id that linux.uid"),
    ("process.user.gid", 1000, "", "an id that linux.gidMappings maps"),
    ("process.user.additionalGids[0]", 1000, "", "not mapped"),
    ("linux.devices[0].uid", 1000, "", "not mapped"),
    ("linux.devices[0].gid", 1000, "", "not mapped"),
    ("mounts[0].options[0]", "gid=1005", "", "not mapped"),
    ("mounts[0].options[0]", "mode=600,uid=1005", "", "not mapped"),
    ("linux.namespaces[1].type", "ipc", "linux.namespaces[0].type", "needs a mount namespace"),
    ("linux.namespaces[1].path", "/m", "", "belongs to another user namespace"),
    ("linux.namespaces[2].path", "/p", "", "join the user namespace that it belongs to"),
    # id-mapped mounts
    ("mounts[0].options[1]", "idmap", "mounts[0]", "only a bind mount can"),
    ("mounts[1].options[1]", "idmap=uids=0-1-10", "", "which the specification does not know"),
    ("mounts[1].uidMappings", [MAPPING], "mounts[1].gidMappings", "both uids and gids, or neither"),
    ("mounts[1].gidMappings", [MAPPING], "mounts[1].uidMappings", "is missing"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "at", "words"), BROKEN, ids=lambda value: str(value)[:60]
)
def test_an_error_of_a_mapping_names_its_path_and_the_problem(path, value, at, words):
    found = {error.fault.at: str(error) for error in problems_of(edited(CONFIG, path, value))}
    assert words in found[at or path]


def test_mappings_of_a_mount_are_checked_like_those_of_the_namespace():
    config = edited(CONFIG, "mounts[1]", {**CONFIG["mounts"][1], **BOTH})
    assert problems_of(config) == []
    (error,) = problems_of(edited(config, "mounts[1].uidMappings[0].size", 0))
    assert error.fault.at == "mounts[1].uidMappings[0].size"


@pytest.mark.parametrize("option", ["idmap", "ridmap"])
def test_a_mount_is_mapped_as_the_user_namespace_or_needs_mappings_of_its_own(option):
    config = edited(CONFIG, "mounts[1].options[1]", option)
    assert problems_of(config) == []
    for key in ("uidMappings", "gidMappings"):
        config = edited(config, f"linux.{key}", [])
    config = edited(config, "linux.namespaces[0].type", "uts")
    (error,) = problems_of(config)
    assert "has no mappings" in str(error)
    assert problems_of(edited(config, "mounts[1]", {**config["mounts"][1], **BOTH})) == []


def test_a_remount_cannot_map_ids():
    mount = {"destination": "/data", "options": ["bind", "remount", "idmap"]}
    (error,) = problems_of(edited(CONFIG, "mounts[1]", mount))
    assert error.fault.at == "mounts[1]"


def test_the_ids_of_a_process_for_exec_must_be_mapped():
    linux = parse.parse(json.dumps(CONFIG)).linux
    text = '{"cwd": "/", "args": ["ls"], "user": {"uid": 1000, "gid": 0}}'
    process = parse.read_text(records.Process, text, "process")
    check.check_process(process)
    with pytest.raises(SpecError, match="not mapped into the user namespace"):
        check.check_process(process, linux)
