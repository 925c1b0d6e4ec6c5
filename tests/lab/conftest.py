"""Fixtures of the machine's tests."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.containers import Runtime, populate


@pytest.fixture(scope="session")
def rootfs() -> Iterator[Path]:
    """A busybox root, shared by all containers of a session and accessible to every user."""
    with tempfile.TemporaryDirectory(prefix="pycontain-lab-", dir="/var/tmp") as name:
        path = Path(name)
        path.chmod(0o755)
        populate(path)
        yield path


@pytest.fixture
def runtime(tmp_path: Path, rootfs: Path) -> Iterator[Runtime]:
    """The runtime under test; the containers of the test are removed afterwards."""
    made = Runtime(tmp_path, rootfs)
    yield made
    made.close()


@pytest.fixture
def systemd_runtime(tmp_path: Path, rootfs: Path) -> Iterator[Runtime]:
    """The runtime under test, using its systemd driver."""
    made = Runtime(tmp_path, rootfs, ["--systemd-cgroup"])
    yield made
    made.close()
