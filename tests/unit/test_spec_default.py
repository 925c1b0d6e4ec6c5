"""The configuration for a root file system and a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pycontain.errors import UsageError
from pycontain.lean import jsontext
from pycontain.spec import check, default, parse
from pycontain.spec.default import Settings, configuration

DOCKERS = json.loads((Path(__file__).parent / "data" / "docker.json").read_text())


def made(**chosen: object) -> dict:
    return configuration("/srv/root", ["true"], Settings(**chosen))


def capabilities(**chosen: object) -> dict[str, list[str]]:
    return made(**chosen)["process"]["capabilities"]


EVERYTHING = {
    "env": ("A=1", "B=2", "A=3"),
    "cwd": "/srv",
    "uid": 7,
    "gid": 8,
    "groups": (9,),
    "terminal": True,
    "hostname": "box",
    "readonly": True,
    "network": "host",
    "memory": 1 << 28,
    "cpus": 1.5,
    "pids": 64,
    "tmpfs": (("/work", 4096),),
    "rlimits": (("RLIMIT_NOFILE", 64),),
    "cap_add": ("net_admin",),
    "cap_drop": ("CAP_CHOWN",),
    "mounts": ({"destination": "/a", "source": "/b", "options": ["bind"]},),
    "masked": ("/sys/secret",),
    "annotations": (("org.example", "x"),),
}


@pytest.mark.parametrize("chosen", [{}, EVERYTHING], ids=["nothing chosen", "everything chosen"])
def test_a_default_configuration_has_no_problem(chosen: dict[str, object]) -> None:
    assert check.problems(parse.parse(jsontext.dumps(made(**chosen)))) == []


def test_a_default_configuration_has_the_given_command_and_root() -> None:
    config = made(readonly=True)
    assert config["process"]["args"] == ["true"]
    assert config["root"] == {"path": "/srv/root", "readonly": True}


def test_the_default_capabilities_are_fewer_than_dockers() -> None:
    sets = capabilities()
    assert set(sets["bounding"]) < set(DOCKERS["process"]["capabilities"]["bounding"])
    assert sets["bounding"] == sets["effective"] == sets["permitted"]
    assert sets.keys() == {"bounding", "effective", "permitted"}


def test_no_program_gains_privileges_by_default() -> None:
    assert made()["process"]["noNewPrivileges"] is True


def test_paths_that_docker_masks_or_makes_read_only_are_so_by_default() -> None:
    linux = made()["linux"]
    assert set(linux["maskedPaths"]) >= set(DOCKERS["linux"]["maskedPaths"])
    covered = {*linux["readonlyPaths"], *linux["maskedPaths"]}
    assert covered >= set(DOCKERS["linux"]["readonlyPaths"])


def test_namespaces_that_docker_creates_are_created_by_default() -> None:
    def kinds(config: dict) -> set[str]:
        return {entry["type"] for entry in config["linux"]["namespaces"]}

    assert kinds(made()) == kinds(DOCKERS)
    assert kinds(made()) - kinds(made(network="host")) == {"network"}


def test_mounts_of_the_kernels_file_systems_are_as_restricted_as_dockers() -> None:
    ours = {mount["destination"]: mount for mount in made()["mounts"]}
    theirs = (mount for mount in DOCKERS["mounts"] if mount["type"] != "bind")
    for mount in theirs:
        own = ours[mount["destination"]]
        restrictions = {"nosuid", "noexec", "nodev", "ro"}
        assert own["type"] == mount["type"]
        assert set(own["options"]) >= set(mount["options"]) & restrictions, own


def test_no_limit_is_set_by_default() -> None:
    assert made()["linux"]["resources"] == {"devices": [{"allow": False, "access": "rwm"}]}


def test_given_limits_become_resources() -> None:
    resources = made(memory=1 << 28, cpus=1.5, pids=64)["linux"]["resources"]
    assert resources["memory"] == {"limit": 1 << 28, "swap": 1 << 28}
    assert resources["cpu"] == {"quota": 150_000, "period": 100_000}
    assert resources["pids"] == {"limit": 64}


def test_a_program_dumps_no_core_unless_asked() -> None:
    core = {"type": "RLIMIT_CORE", "hard": 0, "soft": 0}
    assert made()["process"]["rlimits"] == [core]
    files = {"type": "RLIMIT_NOFILE", "hard": 64, "soft": 64}
    assert made(rlimits=(("RLIMIT_NOFILE", 64),))["process"]["rlimits"] == [core, files]


def test_the_last_value_of_a_variable_counts() -> None:
    env = made(env=("A=1", "PATH=/x", "A=2"), hostname="box")["process"]["env"]
    assert env == ["PATH=/x", "HOSTNAME=box", "A=2"]
    assert "TERM=xterm" in made(terminal=True)["process"]["env"]


def test_a_readonly_root_has_places_to_write_to() -> None:
    def tmpfs(**chosen: object) -> dict[str, list[str]]:
        places = {"/run", "/tmp", "/var/tmp"}
        mounts = made(**chosen)["mounts"]
        return {m["destination"]: m["options"] for m in mounts if m["destination"] in places}

    assert tmpfs() == {}
    assert tmpfs(readonly=True).keys() == {"/run", "/tmp", "/var/tmp"}
    assert "size=4096" in tmpfs(readonly=True, tmpfs=(("/tmp", 4096),))["/tmp"]


def test_another_user_than_root_has_no_capability_but_those_added() -> None:
    assert capabilities(uid=1).keys() == {"bounding"}
    sets = capabilities(uid=1, cap_add=("NET_ADMIN",))
    for kind in ("effective", "permitted", "inheritable", "ambient"):
        assert sets[kind] == ["CAP_NET_ADMIN"]
    assert set(sets["bounding"]) == {*default.CAPABILITIES, "CAP_NET_ADMIN"}


def test_capabilities_are_dropped_before_others_are_added() -> None:
    assert capabilities(cap_drop=("all",), cap_add=("Net_Raw",))["bounding"] == ["CAP_NET_RAW"]
    assert capabilities(cap_drop=("ALL",))["bounding"] == []
    assert "CAP_CHOWN" not in capabilities(cap_drop=("CAP_CHOWN",))["bounding"]
    assert "CAP_SYS_ADMIN" in capabilities(cap_add=("ALL",))["bounding"]


@pytest.mark.parametrize("flag", ["cap_add", "cap_drop"])
def test_an_unknown_capability_is_refused_with_the_flag(flag: str) -> None:
    with pytest.raises(UsageError) as caught:
        made(**{flag: ("FLY",)})
    assert str(caught.value).startswith(f"--{flag.replace('_', '-')} = FLY is not a capability")
