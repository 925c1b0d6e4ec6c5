"""
Images whose layers were made to reach the host while they are unpacked.

The unpacking is umoci's. What is tested is that nothing outside of the new root is read, changed or
removed, whatever a layer names and whatever the layers below have put there, and what is left.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bundles import Runtime
from tests.image.conftest import HOME

pytestmark = pytest.mark.needs_root

Entry = tuple[str, bytes, str]  # name, type, content or target of a link
FILE, LINK, HARD, FOLDER = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
SECRET = "secret of the host"
Hostile = Callable[..., str]


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder of the host, with what an attacker would read, change or remove."""
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "secret").write_text(SECRET)
    (folder / "precious").write_text("precious")
    return folder


def state_of(folder: Path) -> dict[str, tuple[str, int, int]]:
    return {
        path.name: (path.read_text(), path.stat().st_mode, path.stat().st_nlink)
        for path in folder.iterdir()
    }


def layer(entries: list[Entry]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, text in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o755 if kind == FOLDER else 0o4755
            content = text.encode() if kind == FILE else b""
            info.size, info.linkname = len(content), "" if kind in (FILE, FOLDER) else text
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


@pytest.fixture
def hostile(tmp_path: Path, layout: Path) -> Hostile:
    """Adds layers to the tests' image; returns its name for `pycontain`."""

    def make(*layers: bytes, changed: Callable[[dict], None] = lambda _: None) -> str:
        path = tmp_path / "hostile"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(layout, path)
        index = json.loads((path / "index.json").read_text())
        [described] = index["manifests"]
        manifest = read(path, described)
        config = read(path, manifest["config"])
        for content in layers:
            packed = gzip.compress(content)
            kind = "application/vnd.oci.image.layer.v1.tar+gzip"
            manifest["layers"].append({"mediaType": kind, **blob(path, packed)})
            config["rootfs"]["diff_ids"].append("sha256:" + hashlib.sha256(content).hexdigest())
        changed(config)
        manifest["config"] |= blob(path, json.dumps(config).encode())
        described |= blob(path, json.dumps(manifest).encode())
        (path / "index.json").write_text(json.dumps(index))
        return f"oci:{path}:test"

    return make


def read(path: Path, described: dict) -> dict:
    return json.loads((path / "blobs/sha256" / described["digest"].split(":")[1]).read_text())


def blob(path: Path, content: bytes) -> dict[str, object]:
    digest = hashlib.sha256(content).hexdigest()
    (path / "blobs/sha256" / digest).write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}


def through_link(name: str, text: str = "planted") -> Callable[[Path], list[list[Entry]]]:
    """A link to the host in one layer; in the next an entry behind it."""
    return lambda victim: [
        [("out", LINK, str(victim))],
        [(f"out/{name}", FILE, text)],
    ]


ATTACKS: dict[str, Callable[[Path], list[list[Entry]]]] = {
    "a file behind a link": through_link("planted"),
    "a file behind a relative link": lambda victim: [
        [("out", LINK, "../" * 30 + str(victim)[1:])], [("out/planted", FILE, "x")]
    ],
    "a file behind a link of the same layer": lambda victim: [
        [("out", LINK, str(victim)), ("out/planted", FILE, "x")]
    ],
    "a folder behind a link": lambda victim: [
        [("out", LINK, str(victim))], [("out/", FOLDER, ""), ("out/planted", FILE, "x")]
    ],
    "a file over a link": lambda victim: [
        [("out", LINK, f"{victim}/precious")], [("out", FILE, "overwritten")]
    ],
    "a name with dots": lambda victim: [[("../" * 30 + f"{victim}/planted"[1:], FILE, "x")]],
    "an absolute name": lambda victim: [[(f"{victim}/planted", FILE, "x")]],
    "a hard link to the host": lambda victim: [[("stolen", HARD, f"{victim}/secret")]],
    "a hard link with dots": lambda victim: [
        [("stolen", HARD, "../" * 30 + f"{victim}/secret"[1:])]
    ],
    "a hard link behind a link": lambda victim: [
        [("out", LINK, str(victim))], [("stolen", HARD, "out/secret")]
    ],
    "a whiteout behind a link": through_link(".wh.precious", ""),
    "an opaque folder behind a link": through_link(".wh..wh..opq", ""),
    "a whiteout with dots": lambda victim: [
        [("../" * 30 + f"{victim}/.wh.precious"[1:], FILE, "")]
    ],
    "a whiteout of the folder above": lambda victim: [[(".wh...", FILE, ""), (".wh..", FILE, "")]],
    "a loop of links": lambda victim: [
        [("a", LINK, "b"), ("b", LINK, "a")], [("a/planted", FILE, "x")]
    ],
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_layer_neither_changes_nor_reads_the_host(
    runtime: Runtime, hostile: Hostile, victim: Path, attack
) -> None:
    before, cached = state_of(victim), cache()
    name = hostile(*map(layer, attack(victim)))
    done = runtime("image", "pull", name)
    assert state_of(victim) == before
    if done.status:
        assert len(done.err.splitlines()) == 1, done.err
        assert cache() == cached
        return
    found = runtime("run", name, "cat", "/stolen")
    assert SECRET not in found.out
    assert state_of(victim) == before
    runtime.ok("image", "rm", name)
    assert state_of(victim) == before
    assert cache() == cached


def test_a_layer_without_an_attack_is_unpacked(runtime: Runtime, hostile: Hostile) -> None:
    """So the others are not refused for how they were made."""
    name = hostile(layer([("ok", FILE, "given")]), layer([(".wh.data", FILE, "")]))
    done = runtime("run", name, "sh", "-c", "cat /ok; ls -d /data")
    assert done.out == "given"


@pytest.mark.control
@pytest.mark.parametrize("name", ["a file behind a link", "an absolute name", "a name with dots",
                                  "a hard link to the host", "a whiteout behind a link"])  # fmt: skip
def test_a_naive_unpacking_by_path_changes_or_reads_it(tmp_path, victim: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    before = state_of(victim)
    for entries in ATTACKS[name](victim):
        for path, kind, text in entries:
            place = os.path.join(root, path)
            folder, _, last = place.rpartition("/")
            if last.startswith(".wh."):
                os.unlink(f"{folder}/{last[4:]}")
            elif kind == LINK:
                os.symlink(text, place)
            elif kind == HARD:
                os.link(text, place)
            else:
                Path(place).write_text(text)
    assert state_of(victim) != before


def cache() -> set[str]:
    return {path.name for path in (HOME / "images").iterdir()} - {"lock", "names.json"}


BROKEN = {
    "no archive": b"garbage" * 1000,
    "half an archive": layer([("file", FILE, "x" * 100_000)])[:50_000],
    "a long name": layer([("d/" * 3000 + "file", FILE, "x")]),
    "a component that is too long": layer([("x" * 300, FILE, "x")]),
    "a NUL in a name": layer([("a", FILE, "x")]).replace(b"a\0", b"\0a", 1),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_layer_that_cannot_be_unpacked_is_an_error_of_one_line(
    runtime: Runtime, hostile: Hostile, content: bytes
) -> None:
    before = cache()
    done = runtime("image", "pull", hostile(content))
    if done.status == 0:
        runtime.ok("image", "rm", hostile(content))
    else:
        assert len(done.err.splitlines()) == 1, done.err
        assert done.err.startswith("pycontain: ")
    assert cache() == before


def test_a_layer_that_is_larger_than_the_disk_leaves_nothing(
    runtime: Runtime, hostile: Hostile
) -> None:
    """Of 64 MB of zeros, which are 64 kB in the image."""
    before = cache()
    name = hostile(layer([("huge", FILE, "\0" * (64 << 20))]))
    remount = ("mount", "-o")
    subprocess.run([*remount, "remount,size=32m", HOME / "images"], check=True)
    try:
        done = runtime("image", "pull", name)
    finally:
        subprocess.run([*remount, "remount,size=50%", HOME / "images"], check=True)
    assert done.status == 1
    assert len(done.err.splitlines()) == 1, done.err
    assert "no space left" in done.err.lower()
    assert cache() == before


CONFIGS: dict[str, Callable[[dict], None]] = {
    "a directory outside": lambda config: config.update(config={"WorkingDir": "/../../etc"}),
    "a relative directory": lambda config: config.update(config={"WorkingDir": "../../etc"}),
    "a NUL": lambda config: config.update(config={"Cmd": ["sh\0x"]}),
    "a user that is no user": lambda config: config.update(config={"User": "../../root:x:y"}),
    "numbers for texts": lambda config: config.update(config={"Env": [1, 2], "Cmd": {"a": 1}}),
    "a volume outside": lambda config: config.update(
        config={"Volumes": {"/../../../victim": {}, "": {}, "\0": {}}}
    ),
    "no object": lambda config: config.update(config="text"),
}


@pytest.mark.parametrize("change", CONFIGS.values(), ids=CONFIGS)
def test_a_hostile_configuration_stays_inside_or_is_an_error_of_one_line(
    runtime: Runtime, hostile: Hostile, change
) -> None:
    name = hostile(changed=change)
    done = runtime("run", name, "sh", "-c", "pwd; ls /etc/passwd")
    if done.status:
        assert len(done.err.splitlines()) == 1, done.err
        assert "Traceback" not in done.err
    else:
        assert done.lines[-1] == "/etc/passwd"
    runtime("image", "rm", name)
