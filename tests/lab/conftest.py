"""Fixtures of the machine's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .containers import Runtime, populate


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A busybox root, shared by the containers of a session."""
    path = tmp_path_factory.mktemp("rootfs")
    path.chmod(0o755)
    populate(path)
    return path


@pytest.fixture
def runtime(tmp_path: Path, rootfs: Path) -> Iterator[Runtime]:
    """The runtime under test; what a test made with it is removed afterwards."""
    made = Runtime(tmp_path, rootfs)
    yield made
    made.close()


@pytest.fixture
def systemd_runtime(tmp_path: Path, rootfs: Path) -> Iterator[Runtime]:
    """The runtime under test with its systemd driver."""
    made = Runtime(tmp_path, rootfs, ["--systemd-cgroup"])
    yield made
    made.close()
