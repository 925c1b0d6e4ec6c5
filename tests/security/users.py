"""Other users: what they own, and what they do."""

from __future__ import annotations

import os
import signal
import time

import pytest

from pycontain.errors import HostError
from pycontain.kernel import safe_path
from pycontain.state.directory import StateDir
from tests.security.attack import in_a_child

ALICE, BOB = 12345, 12346
BY_ALICE = f"belongs to user {ALICE}, not to root"


def made(path, owner=0, mode=0o755):
    path.mkdir()
    os.chown(path, owner, owner)
    path.chmod(mode)
    return path


def reserve(root, id):
    """Create the directory of a container, and nothing in it."""
    directory = StateDir(str(root), id)
    directory.reserve()
    directory.close()


def as_user(uid, work):
    """Call `work` in a new process of this user; returns its result, passed on as JSON."""

    def become_and_work():
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        return work()

    return in_a_child(become_and_work)


class Attacker:
    """A process of another user that does the same over and over."""

    def __init__(self, uid, work):
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                while True:
                    work()
                    time.sleep(20e-6)  # otherwise nobody else gets to use the directory
            finally:
                os._exit(1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        assert os.waitpid(self.pid, os.WNOHANG) == (0, 0), "the attacker has failed"
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def refusal(path, **how):
    """Why a directory is not ours: (the one that is to blame, the reason)."""
    with pytest.raises(HostError) as caught:
        safe_path.open_directory(str(path), **how)
    return caught.value.fault.at, caught.value.fault.why
