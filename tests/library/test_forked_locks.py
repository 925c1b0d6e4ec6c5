"""
A lock ends with the process that took it, although another thread has forked meanwhile.

A lock of flock(2) belongs to the open file, which the forked child has, too, and may keep for long.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys

import pytest

from pycontain.state.directory import StateDir

PROGRAM = """
import fcntl, os, sys, threading, time
from pycontain.state.directory import StateDir
LOCK
child = []

reader, writer = os.pipe()

def fork():
    pid = os.fork()
    if pid == 0:
        os.write(writer, b"forked")
        time.sleep(1000)
    child.append(pid)

thread = threading.Thread(target=fork)
thread.start()
thread.join()
os.read(reader, 6)
print(child[0], flush=True)
time.sleep(1000)
"""
OURS = "held = StateDir.open(sys.argv[1], 'c')\nheld.lock()"
NAIVE = "fd = os.open(os.path.join(sys.argv[1], 'c'), os.O_RDONLY)\nfcntl.flock(fd, fcntl.LOCK_EX)"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "state/c").mkdir(parents=True, mode=0o700)
    (tmp_path / "state").chmod(0o700)
    return tmp_path / "state"


def is_free(root, take: str) -> bool:
    """Whether the lock is free after a program that took it, and then forked, was killed."""
    words = [sys.executable, "-W", "ignore", "-c", PROGRAM.replace("LOCK", take), str(root)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as program:
        child = int(program.stdout.readline())
        assert not taken(root), "the program has it"
        program.kill()
        program.wait()
    try:
        return taken(root)
    finally:
        os.kill(child, signal.SIGKILL)


def taken(root) -> bool:
    directory = StateDir.open(str(root), "c")
    try:
        return directory.lock(wait=False)
    finally:
        directory.close()


def test_a_forked_child_does_not_keep_the_lock_of_a_program_that_was_killed(root):
    assert is_free(root, OURS)


@pytest.mark.control
def test_a_child_keeps_the_lock_of_a_file_that_was_opened_as_usual(root):
    assert not is_free(root, NAIVE)


def test_the_child_has_dev_null_in_its_place_as_long_as_others_own_the_number(root):
    directory = StateDir.open(str(root), "c")
    with directory:
        fd = directory._lock
        reader, writer = os.pipe()
        if (pid := os.fork()) == 0:
            os.write(writer, os.readlink(f"/proc/self/fd/{fd}").encode())
            os._exit(0)
        os.waitpid(pid, 0)
        assert os.read(reader, 100) == b"/dev/null"
        assert os.readlink(f"/proc/self/fd/{fd}") == str(root / "c")
        with pytest.raises(BlockingIOError):
            other = os.open(root / "c", os.O_RDONLY)
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for each in (reader, writer, other):
        os.close(each)
