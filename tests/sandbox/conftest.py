"""Fixtures of the sandbox tests."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

import pycontain
from pycontain.cgroup.place import find_mount, own
from pycontain.sandbox import root


def processes() -> set[str]:
    """The command lines that show a process of a sandbox, by pid."""
    return {name for name in os.listdir("/proc") if name.isdigit() and is_sandboxed(name)}


def is_sandboxed(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/status") as file:
            uids = next(line for line in file if line.startswith("Uid:")).split()[1:]
    except (OSError, StopIteration):
        return False
    first = 0x7000_0000 + os.getpid() * 256
    return any(first <= int(uid) < first + 256 for uid in uids)


def cgroups() -> set[str]:
    """The cgroups of this program's containers."""
    above = find_mount() + os.path.dirname(own())
    return {name for name in os.listdir(above) if name.startswith(f"py-{os.getpid()}-")}


@pytest.fixture(autouse=True, scope="module")
def nothing_is_left() -> Iterator[None]:
    root.python_root()  # whose descriptor stays open
    descriptors = len(os.listdir("/proc/self/fd"))
    yield
    pycontain.close()
    end = time.monotonic() + 10
    while processes() and time.monotonic() < end:
        time.sleep(0.05)
    assert processes() == set()
    assert cgroups() == set()
    with open("/proc/self/mountinfo") as file:
        assert "/var/lib/pycontain/files" not in file.read()
    assert len(os.listdir("/proc/self/fd")) <= descriptors


@pytest.fixture(scope="module")
def pool() -> Iterator[pycontain.Pool]:
    with pycontain.Pool(2, imports=["json"], timeout=30) as pool:
        yield pool


@pytest.fixture(scope="module")
def box() -> Iterator[pycontain.Sandbox]:
    with pycontain.Sandbox(timeout=30) as box:
        yield box
