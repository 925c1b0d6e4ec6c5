"""Configurations of Podman, Docker, containerd, runc and crun are read and have no problem."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from pycontain.spec import check, parse, records
from tests.unit.spec_configs import edited

DATA = Path(__file__).parent / "data"
ENGINES = ("podman", "docker", "containerd")


def problems_of(text: str) -> list[str]:
    return list(map(str, check.problems(parse.parse(text))))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_bundle_of_an_engine_has_no_problem(engine: str) -> None:
    assert problems_of((DATA / f"{engine}.json").read_text()) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_the_bundle_of_an_engine_can_have_a_user_namespace(engine: str) -> None:
    config = json.loads((DATA / f"{engine}.json").read_text())
    end = len(config["linux"]["namespaces"])
    config = edited(config, f"linux.namespaces[{end}]", {"type": "user"})
    for key in ("uidMappings", "gidMappings"):
        mapping = {"containerID": 0, "hostID": 100_000, "size": 65_536}
        config = edited(config, f"linux.{key}", [mapping])
    assert problems_of(json.dumps(config)) == []


def test_the_process_file_that_podman_gives_to_exec_has_no_problem() -> None:
    process = json.loads((DATA / "podman.json").read_text())["process"]
    check.check_process(parse.read_text(records.Process, json.dumps(process), "process"))


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_the_sample_of_another_runtime_has_no_problem(runtime: str, tmp_path: Path) -> None:
    if shutil.which(runtime) is None:
        pytest.skip(f"{runtime} is missing")
    subprocess.run([runtime, "spec"], cwd=tmp_path, check=True)
    assert problems_of((tmp_path / "config.json").read_text()) == []


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_the_rootless_sample_of_another_runtime_lacks_mappings_at_most(
    runtime: str, tmp_path: Path
) -> None:
    if shutil.which(runtime) is None:
        pytest.skip(f"{runtime} is missing")
    subprocess.run([runtime, "spec", "--rootless"], cwd=tmp_path, check=True)
    lines = problems_of((tmp_path / "config.json").read_text())
    if runtime == "crun":  # which chooses the mappings that its sample lacks
        assert len(lines) == 2
        assert all("Mappings is required by the user namespace" in line for line in lines)
    else:
        assert lines == []
