"""`docker://`: images from a registry, which runs here on the loopback device."""

from __future__ import annotations

import base64
import json
import os
import pty
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontain
from pycontain.image import tools
from pycontain.image.reference import USUAL, pinned
from tests.bundles import LIMIT, Runtime
from tests.image.conftest import Made, configure
from tests.image.registry import Registry
from tests.image.test_images import images, run
from tests.lifecycle.test_terminal import read_until, set_size

pytestmark = pytest.mark.needs_root

PLAIN = "--tls-verify=false"


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry()
    yield made
    made.close()


def layout_of(name: str) -> Path:
    return Path(name.split(":")[1])


def test_an_image_is_pulled_once_and_run_by_its_name(runtime, image: Made, registry) -> None:
    digest = registry.put(layout_of(image(cmd=["cat", "/data/given"])))
    name = registry.name()
    assert run(runtime, PLAIN, name).out == "from the image\n"
    assert [(one["digest"], one["names"]) for one in images(runtime)] == [(digest, [name])]
    asked = len(registry.requests)
    assert run(runtime, name).out == "from the image\n"
    assert len(registry.requests) == asked, "it is in the cache"
    assert run(runtime, digest[:19]).out == "from the image\n"


def test_a_pull_follows_a_tag_that_was_moved(runtime, image: Made, registry) -> None:
    layout = layout_of(image(cmd=["echo", "old"]))
    old, name = registry.put(layout), registry.name()
    assert runtime.ok("image", "pull", PLAIN, name).out == f"{old}\n"
    configure(layout, cmd=["echo", "new"])
    new = registry.put(layout)
    assert run(runtime, name).out == "old\n", "what is there is not asked for"
    assert runtime.ok("image", "pull", PLAIN, name).out == f"{new}\n"
    assert run(runtime, name).out == "new\n"
    assert {one["digest"]: one["names"] for one in images(runtime)} == {old: [], new: [name]}
    by_digest = f"docker://{registry.host}/box@{old}"
    blobs = [path for path in registry.requests if "/blobs/" in path]
    assert runtime.ok("image", "pull", PLAIN, by_digest).out == f"{old}\n"
    assert [path for path in registry.requests if "/blobs/" in path] == blobs, (
        "it is here by digest"
    )


def test_a_tag_that_moves_during_a_pull_does_not_mix_two_images(runtime, image, registry) -> None:
    layout = layout_of(image(cmd=["echo", "old"]))
    old = registry.put(layout)
    configure(layout, cmd=["echo", "new"])

    def move(path: str) -> None:
        if any("/manifests/" in asked for asked in registry.requests[:-1]):
            registry.put(layout)

    registry.before = move
    assert runtime.ok("image", "pull", PLAIN, registry.name()).out == f"{old}\n"
    registry.before = lambda _: None
    assert runtime.ok("image", "pull", PLAIN, registry.name()).out != f"{old}\n", "it has moved"


def test_an_index_stands_for_the_image_of_this_machine(runtime, image: Made, registry) -> None:
    registry.put_index(registry.put(layout_of(image(cmd=["echo", "ours"]))), "many")
    assert run(runtime, PLAIN, registry.name("box:many")).out == "ours\n"


def test_a_registry_without_https_is_refused_unless_it_is_trusted(
    runtime, image: Made, registry, tmp_path: Path
) -> None:
    registry.put(layout_of(image(cmd=["echo", "hi"])))
    line = runtime.refuses("run", registry.name())
    assert "; give --tls-verify=false, or insecure = true in registries.conf" in line
    trusting = tmp_path / ".config/containers/registries.conf"
    trusting.parent.mkdir(parents=True)
    trusting.write_text(f'[[registry]]\nlocation = "{registry.host}"\ninsecure = true\n')
    env = {**os.environ, "HOME": str(tmp_path)}
    assert run(runtime, registry.name(), env=env).out == "hi\n"


def test_a_registry_wants_a_login(runtime, image: Made, registry, tmp_path: Path) -> None:
    registry.put(layout_of(image(cmd=["echo", "hi"])))
    registry.login = "ann:secret"
    line = runtime.refuses("run", PLAIN, registry.name())
    assert "log in with `skopeo login`, or name a file of credentials with --authfile" in line
    token = base64.b64encode(b"ann:secret").decode()
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"auths": {registry.host: {"auth": token}}}))
    assert run(runtime, PLAIN, "--authfile", str(file), registry.name()).out == "hi\n"
    runtime.ok("image", "rm", registry.name())
    env = {**os.environ, "REGISTRY_AUTH_FILE": str(file)}
    assert run(runtime, PLAIN, registry.name(), env=env).out == "hi\n"
    missing = runtime.refuses("run", PLAIN, "--authfile", "/nosuch", registry.name("box:other"))
    assert missing == "pycontain: --authfile = /nosuch does not exist\n"


def test_an_unknown_tag_is_an_error_of_one_line(runtime, registry) -> None:
    line = runtime.refuses("image", "pull", PLAIN, registry.name("box:nosuch"))
    assert line.startswith(f"pycontain: skopeo inspect: {registry.name('box:nosuch')} ")
    assert "manifest unknown" in line


def test_a_registry_that_is_not_there_is_an_error_at_once(runtime) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        name = f"docker://127.0.0.1:{server.getsockname()[1]}/box"
    line = runtime.refuses("run", name)
    assert line.startswith(f"pycontain: skopeo inspect: {name} pinging container registry")
    assert "connection refused" in line


def test_a_registry_that_never_answers_is_given_up(monkeypatch) -> None:
    monkeypatch.setattr(tools, "_TIME_TO_ANSWER", "1s")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        name = f"docker://127.0.0.1:{silent.getsockname()[1]}/box"
        with pytest.raises(pycontain.HostError, match="see whether the registry can be reached"):
            tools.manifest(name, USUAL)


@pytest.mark.parametrize(
    "words",
    [
        ("run", PLAIN, "oci:/tmp/x:y", "true"),
        ("run", "--authfile", "f", "--rootfs", "/", "true"),
        ("image", "rm", PLAIN, "docker://x/y"),
    ],
)
def test_flags_for_registries_are_refused_elsewhere(runtime: Runtime, words) -> None:
    assert "is for images in a registry" in runtime.refuses(*words)


def test_progress_is_shown_on_a_terminal(runtime: Runtime, image: Made, registry) -> None:
    registry.put(layout_of(image(cmd="true")))
    ours, theirs = pty.openpty()
    set_size(ours, 24, 80)
    command = runtime.command("image", "pull", PLAIN, registry.name())
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = read_until(ours, "unpacking")
    assert process.wait(LIMIT) == 0
    os.close(ours)
    assert f"pycontain: copying {registry.name()}" in shown
    assert "Copying blob" in shown


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("docker://alpine", "docker://alpine@D"),
        ("docker://alpine:3", "docker://alpine@D"),
        ("docker://h:5000/a/b", "docker://h:5000/a/b@D"),
        ("docker://h:5000/a/b:1", "docker://h:5000/a/b@D"),
        ("docker://h:5000/b@sha256:aa", "docker://h:5000/b@D"),
        ("oci:/a:b", "oci:/a:b"),
    ],
)
def test_a_manifest_is_named_exactly(name: str, exact: str) -> None:
    assert pinned(name, "D") == exact
