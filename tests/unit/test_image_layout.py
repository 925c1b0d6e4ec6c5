"""Names of images, and what a layout says about one."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from pycontain.errors import HostError, UsageError
from pycontain.image import layout
from pycontain.image.reference import checked


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("docker://busybox", "docker://busybox"),
        ("oci:/a/b:tag", "oci:/a/b:tag"),
        ("oci:./b:tag", "oci:{here}/b:tag"),
        ("dir:b:c", "dir:{here}/b:c"),
        ("docker-archive:b.tar:name:tag", "docker-archive:{here}/b.tar:name:tag"),
        ("containers-storage:name", "containers-storage:name"),
        ("sha256:0123456789ab", "sha256:0123456789ab"),
    ],
)
def test_a_name_has_a_transport_and_an_absolute_path(name: str, expected: str) -> None:
    assert checked(name) == expected.format(here=os.getcwd())


@pytest.mark.parametrize(
    "name", ["", "busybox", "busybox:1", "oci:", "http://x", "sha256:abc", "sha256:../../../etc/x"]
)
def test_an_invalid_image_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        checked(name)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "blobs/sha256").mkdir(parents=True)
    return tmp_path


def put(place: Path, value: object) -> str:
    """Write a blob; returns its digest."""
    data = json.dumps(value).encode()
    (place / "blobs/sha256" / digest_of(data).removeprefix("sha256:")).write_bytes(data)
    return digest_of(data)


def index(place: Path, *digests: str) -> None:
    entries = [{"digest": digest} for digest in digests]
    (place / "index.json").write_text(json.dumps({"manifests": entries}))


def test_the_configuration_of_an_image_is_that_of_its_only_manifest(place: Path) -> None:
    config = {"os": "linux", "config": {"Cmd": ["a"], "Labels": {"x": "y"}, "User": "ann"}}
    manifest = put(place, {"config": {"digest": put(place, config)}})
    index(place, manifest)
    digest, text = layout.read(str(place), "test")
    assert digest == manifest
    parsed = layout.parsed(digest, text)
    assert (parsed.cmd, parsed.user, parsed.labels) == (("a",), "ann", (("x", "y"),))
    assert parsed.entrypoint == parsed.env == parsed.volumes == ()


def test_a_file_that_does_not_match_its_digest_is_refused(place: Path) -> None:
    manifest = put(place, {"config": {"digest": put(place, {})}})
    index(place, manifest)
    (place / "blobs/sha256" / manifest.removeprefix("sha256:")).write_text("{}")
    with pytest.raises(HostError, match="does not match its digest"):
        layout.read(str(place), "test")


@pytest.mark.parametrize(
    "digest", ["sha256:../../../../etc/passwd", "md5:0", "", "sha256:" + "A" * 64]
)
def test_a_digest_cannot_name_another_file(place: Path, digest: str) -> None:
    index(place, digest)
    with pytest.raises(HostError, match="has a digest that is not SHA-256"):
        layout.read(str(place), "test")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"manifests": 3}', '{"manifests": []}'])
def test_a_broken_index_is_one_error(place: Path, text: str) -> None:
    (place / "index.json").write_text(text)
    with pytest.raises(HostError):
        layout.read(str(place), "test")


@pytest.mark.parametrize(
    "process", ["x", {"Cmd": "sh"}, {"Entrypoint": [1]}, {"Volumes": ["/a"]}, {"Labels": "x"}]
)
def test_a_configuration_of_the_wrong_types_is_one_error(process: object) -> None:
    with pytest.raises(HostError):
        layout.parsed("sha256:0", json.dumps({"config": process}))


def test_another_machines_image_is_refused() -> None:
    config = layout.parsed("sha256:0", '{"architecture": "s390x", "os": "linux"}')
    with pytest.raises(HostError, match="is for linux/s390x"):
        layout.check_machine(config, "test")
    layout.check_machine(layout.parsed("sha256:0", "{}"), "test")
