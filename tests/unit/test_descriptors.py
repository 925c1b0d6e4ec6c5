"""Descriptors that an object owns: each is closed once, whatever goes wrong."""

from __future__ import annotations

import ast
import errno
import os
from collections.abc import Callable, Iterator

import pytest

from pycontain.cgroup.tree import Cgroup
from pycontain.hooks import _Output
from pycontain.kernel import descriptors
from pycontain.kernel.safe_path import Directory
from pycontain.kernel.wait import Until
from pycontain.launch.child import Child
from pycontain.state.directory import StateDir
from pycontain.wire.sync import Channel
from tests.style.test_source import SOURCES, name_of


class Owner:
    def __init__(self, *fds: int) -> None:
        self.first, self.second = fds


def opened() -> int:
    return os.open("/dev/null", os.O_RDONLY)


@pytest.fixture
def interrupted(monkeypatch) -> list[int]:
    """Each close(2) closes, as on Linux, and then reports EINTR; returns what was closed."""
    closed: list[int] = []
    close = os.close

    def close_and_fail(fd: int) -> None:
        closed.append(fd)
        close(fd)
        raise InterruptedError(errno.EINTR, "")

    monkeypatch.setattr(descriptors.os, "close", close_and_fail)
    return closed


def test_all_descriptors_are_closed_and_the_first_error_is_raised(interrupted):
    owner = Owner(opened(), opened())
    fds = [owner.first, owner.second]
    with pytest.raises(InterruptedError):
        descriptors.close_owned(owner, "first", "second")
    assert interrupted == fds
    assert (owner.first, owner.second) == (-1, -1)


def test_an_attribute_without_a_descriptor_is_not_closed(interrupted):
    descriptors.close_owned(Owner(-1, -1), "first", "second")
    assert interrupted == []


def test_a_new_descriptor_is_owned_although_closing_the_old_one_fails(interrupted):
    owner = Owner(opened(), -1)
    fd = opened()
    with pytest.raises(InterruptedError):
        descriptors.replace_owned(owner, "first", fd)
    assert owner.first == fd
    os.fstat(fd)


class Naive(Owner):
    def close(self) -> None:
        descriptors.os.close(self.first)
        self.first = -1


@pytest.mark.control
def test_a_naive_close_takes_somebody_elses_descriptor(interrupted, monkeypatch):
    owner = Naive(opened(), -1)
    with pytest.raises(InterruptedError):
        owner.close()
    somebody_elses = opened()
    assert somebody_elses == owner.first, "the lowest free number is used first"
    with pytest.raises(InterruptedError):
        owner.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(somebody_elses)


def _state_directory() -> StateDir:
    directory = StateDir("/nowhere", "c")
    directory._lock, directory._process = opened(), opened()
    return directory


def _cgroup() -> Cgroup:
    cgroup = Cgroup("/", "dev")
    assert cgroup.fd >= 0
    return cgroup


OWNERS: dict[str, tuple[Callable[[], object], str]] = {
    "a channel": (lambda: Channel(opened(), opened(), opened()), "close"),
    "a state directory": (_state_directory, "close"),
    "its lock": (_state_directory, "unlock"),
    "a child": (lambda: Child(1, opened()), "close_pidfd"),
    "a cgroup": (_cgroup, "close"),
    "a wait": (lambda: Until(signals=opened()), "__exit__"),
    "a hook's output": (_Output, "close"),
}


@pytest.mark.parametrize("name", OWNERS)
def test_a_close_that_is_interrupted_is_not_repeated(interrupted, name):
    make, close = OWNERS[name]
    owner = make()
    with pytest.raises(InterruptedError):
        getattr(owner, close)()
    closed = [*interrupted]
    others = [opened() for _ in closed]
    getattr(owner, close)()
    assert interrupted == closed
    for fd in others:
        os.fstat(fd)


def test_an_interrupted_close_of_a_directory_is_not_repeated():
    closed: list[int] = []

    def close_and_fail(fd: int) -> None:
        closed.append(fd)
        os.close(fd)
        raise InterruptedError(errno.EINTR, "")

    directory = Directory(opened())
    with pytest.raises(InterruptedError):
        directory.close(close_and_fail)
    directory.close(close_and_fail)
    assert len(closed) == 1


def closed_in_place(source: str) -> Iterator[str]:
    """Each os.close of an attribute of self, which `descriptors` would have reset before."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "os.close":
            text = ast.unparse(node.args[0])
            if text.startswith("self."):
                yield text


def test_the_source_closes_owned_descriptors_only_through_its_functions():
    found = [
        (name_of(path), text) for path in SOURCES for text in closed_in_place(path.read_text())
    ]
    assert [each for each in found if each != ("cli/log.py", "self._open()")] == []
