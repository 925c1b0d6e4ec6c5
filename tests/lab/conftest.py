"""Fixtures of the machine's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.containers import Runtime, busybox_root


@pytest.fixture(scope="session")
def rootfs() -> Iterator[Path]:
    """A busybox root, shared by all containers of a session and accessible to every user."""
    with busybox_root("pycontain-lab-") as path:
        yield path


@pytest.fixture
def runtime(tmp_path: Path, rootfs: Path) -> Iterator[Runtime]:
    """The runtime under test; the containers of the test are removed afterwards."""
    tested = Runtime(tmp_path, rootfs)
    yield tested
    tested.close()


@pytest.fixture
def systemd_runtime(tmp_path: Path, rootfs: Path) -> Iterator[Runtime]:
    """The runtime under test, using its systemd driver."""
    tested = Runtime(tmp_path, rootfs, ["--systemd-cgroup"])
    yield tested
    tested.close()
