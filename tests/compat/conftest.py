"""Fixtures: the runtimes, a root file system, Podman for root and for a user, Docker."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.engines import LIMIT, Docker, Podman, output
from tests.lab.containers import APPLETS, busybox_root, until
from tests.lab.users import User

# outside of `make compat` nothing is collected: under emulation this takes half an hour
collect_ignore_glob = [] if os.environ.get("PYCONTAIN_COMPAT") else ["test_*.py"]

MORE = ("hostname", "kill", "mount", "od", "ps", "stty", "touch", "true", "tty", "wc")


@pytest.fixture(scope="session")
def rootfs() -> Iterator[Path]:
    """A busybox root that every user can read."""
    with busybox_root("pycontain-compat-") as path:
        for applet in set(MORE) - set(APPLETS):
            (path / "bin" / applet).symlink_to("busybox")
        for folder in ("etc", "run", "sys", "root", "var"):
            (path / folder).mkdir(exist_ok=True)
        yield path


@pytest.fixture(scope="session")
def archive(rootfs: Path) -> Path:
    """The same as a tar file, to import as an image."""
    path = rootfs.with_suffix(".tar")
    subprocess.run(["tar", "-C", str(rootfs), "-cf", str(path), "."], check=True, timeout=LIMIT)
    return path


@pytest.fixture(scope="session", params=["pycontain", "runc"])
def runtime(request: pytest.FixtureRequest) -> str:
    """The path of the runtime; runc is the control."""
    path = shutil.which(request.param)
    assert path, f"{request.param} is not installed"
    return path


@pytest.fixture(scope="session", params=["cgroupfs", "systemd"])
def podman(request: pytest.FixtureRequest, runtime: str, archive: Path) -> Iterator[Podman]:
    """Podman of root."""
    engine = Podman(runtime, request.param, archive)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def user() -> User:
    """An ordinary user."""
    return User()


@pytest.fixture(scope="session", params=["cgroupfs", "systemd"])
def rootless(
    request: pytest.FixtureRequest, runtime: str, archive: Path, user: User
) -> Iterator[Podman]:
    """Podman of an ordinary user."""
    engine = Podman(runtime, request.param, archive, user)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def docker(runtime: str, archive: Path) -> Iterator[Docker]:
    """Docker's daemon, with the runtime as its default."""
    settings = {
        "runtimes": {"tested": {"path": runtime}},
        "default-runtime": "tested",
        "exec-opts": ["native.cgroupdriver=systemd"],
        "iptables": False,
        "bridge": "none",
    }
    file = Path("/etc/docker/daemon.json")
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(settings))
    subprocess.run(["systemctl", "restart", "docker"], check=True, timeout=LIMIT)
    until(lambda: Path("/run/docker.sock").exists(), "docker's socket")
    output("docker", "import", str(archive), "lab")
    yield Docker()
    subprocess.run(["systemctl", "stop", "docker.socket", "docker"], check=False, timeout=LIMIT)
