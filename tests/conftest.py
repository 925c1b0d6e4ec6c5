"""Fixtures that all tests of containers share."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontain.kernel import calls
from pycontain.kernel import const as c
from pycontain.kernel.mounts import Tree
from tests.bundles import Bundles, Runtime, fill_rootfs, look

pytest_plugins = ["tests.capabilities", "tests.peers"]


@pytest.fixture(scope="session")
def shared_mounts() -> None:
    """
    A mount namespace for the whole session, in which every mount is shared, as under systemd.

    The tests then see what escapes a container, and the host does not.
    """
    calls.unshare(c.CLONE_NEWNS)
    slash = os.open("/", os.O_PATH)
    for kind in (c.MS_PRIVATE, c.MS_SHARED):
        Tree(slash).propagate(kind, recursive=True)
    os.close(slash)
    os.chdir(os.getcwd())


@pytest.fixture(scope="session")
def busybox_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The busybox root that every bundle gets a copy of."""
    rootfs = tmp_path_factory.mktemp("busybox")
    fill_rootfs(rootfs)
    return rootfs


@pytest.fixture
def bundle(tmp_path: Path, busybox_root: Path) -> Bundles:
    """Creates bundles: bundle(script, {JSON path: value})."""
    tmp_path.chmod(0o755)  # a container's user must be able to traverse it
    return Bundles(tmp_path, busybox_root)


@pytest.fixture
def runtime(tmp_path: Path, shared_mounts: None) -> Iterator[Runtime]:
    """The command line; afterwards the host must be unchanged."""
    before = look()
    runtime = Runtime(tmp_path)
    yield runtime
    runtime.close()
    after = look()
    for kind, was, now in zip(before._fields, before, after, strict=True):
        assert now == was, f"the test changed the host's {kind}"


@pytest.fixture
def terminal() -> Iterator[int]:
    """A terminal that nobody types on and whose size is unknown, for a command's streams."""
    master, slave = pty.openpty()
    yield slave
    os.close(slave)
    os.close(master)
