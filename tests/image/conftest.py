"""Images made here, and a cache of the tests' own in the place of the host's."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from pycontain.kernel.mounts import Tree
from tests.bundles import Runtime, busybox

HOME = Path("/var/lib/pycontain")
PASSWD = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001:Ann:/home/ann:/bin/sh\n"
GROUP = "root:x:0:\nstaff:x:1001:\nwheel:x:10:root,ann\n"

Made = Callable[..., str]


@pytest.fixture(scope="session")
def storage(shared_mounts: None) -> Path:
    """Images and containers of these tests alone: file systems of this mount namespace."""
    for name in ("images", "containers"):
        place = HOME / name
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        tree = Tree.new("tmpfs", ("mode=700",))
        target = os.open(place, os.O_PATH)
        tree.attach(target)
        for fd in (target, tree.fd):
            os.close(fd)
    return HOME


@pytest.fixture
def runtime(storage: Path, runtime: Runtime) -> Runtime:
    """The command line, with an empty cache."""
    runtime.ok("image", "prune", "--all", name="prune")
    assert list((storage / "containers").iterdir()) == []
    return runtime


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory, busybox_root: Path) -> Path:
    """A root file system with two users, and with things that a hostile image would have."""
    path = tmp_path_factory.mktemp("image") / "root"
    shutil.copytree(busybox_root, path, symlinks=True)
    (path / "etc/passwd").write_text(PASSWD)
    (path / "etc/group").write_text(GROUP)
    (path / "data").mkdir()
    (path / "data/given").write_text("from the image\n")
    (path / "etc/mtab").symlink_to("/etc/hostname")
    os.mknod(path / "etc/disk", 0o060666, os.makedev(254, 0))
    return path


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """An OCI layout with one image of that root."""
    for tool in ("umoci", "skopeo"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is missing: apt-get install skopeo umoci")
    path = tmp_path_factory.mktemp("layouts") / "base"
    umoci("init", "--layout", path)
    umoci("new", "--image", f"{path}:test")
    umoci("insert", "--image", f"{path}:test", root, "/")
    return path


@pytest.fixture
def image(tmp_path: Path, layout: Path) -> Made:
    """Makes images: image(cmd=["true"], user="ann") is its name for `pycontain run`."""
    numbers = count(1)

    def make(**config: str | list[str]) -> str:
        path = tmp_path / f"layout-{next(numbers)}"
        shutil.copytree(layout, path)
        configure(path, **config)
        return f"oci:{path}:test"

    return make


def configure(path: Path, **config: str | list[str]) -> None:
    """Change the configuration of the image in a layout."""
    flags = []
    for key, value in config.items():
        for one in [value] if isinstance(value, str) else value:
            flags += [f"--config.{key}", one]
    if flags:
        umoci("config", "--image", f"{path}:test", *flags)


def umoci(*words: str | Path) -> None:
    subprocess.run(["umoci", *map(str, words)], check=True, capture_output=True)


@pytest.fixture
def rootfs(tmp_path: Path, root: Path) -> Path:
    """A copy of that root, which a container may change."""
    path = tmp_path / "rootfs"
    shutil.copytree(root, path, symlinks=True, ignore=shutil.ignore_patterns("disk"))
    assert busybox()
    tmp_path.chmod(0o755)
    return path
