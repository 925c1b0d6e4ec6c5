"""The sealed interpreter. The attack it prevents is in tests/security/test_own_executable.py."""

from __future__ import annotations

import fcntl
import os
import sys
import time

import pytest

from pycontain.kernel import seal, sealed_copy

pytestmark = pytest.mark.needs_overlay


def test_the_sealed_path_is_on_a_read_only_overlay() -> None:
    sealed = seal.mounted(os.path.realpath(sys.executable))
    assert os.statvfs(sealed).f_flag & os.ST_RDONLY
    with pytest.raises(OSError, match="Read-only file system"):
        os.open(sealed, os.O_WRONLY)


def test_a_sealed_path_is_not_sealed_again() -> None:
    sealed = seal.mounted(os.path.realpath(sys.executable))
    assert seal.mounted(sealed) == sealed


def test_a_child_that_is_forked_while_sealing_locks_nobody_out(monkeypatch) -> None:
    """Threads of a program start workers, which seals, while others fork: a child has a copy."""
    own, going = os.path.realpath(sys.executable), os.pipe()
    children: list[int] = []

    def fork_and_place(path: str) -> str:
        children.append(os.fork())
        if children[-1] == 0:
            os.read(going[0], 1)
            os._exit(0)
        return seal.place(path)

    monkeypatch.setattr(sealed_copy, "place", fork_and_place)
    seal.mounted(own)
    monkeypatch.undo()
    lock = os.open(seal.BASE, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert can_be_locked_soon(lock)
    finally:
        os.close(lock)
        os.write(going[1], b"x")
        os.waitpid(children[0], 0)
        for fd in going:
            os.close(fd)


def can_be_locked_soon(fd: int) -> bool:
    """Others may hold the lock for a moment."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01)
        else:
            return True
    return False
