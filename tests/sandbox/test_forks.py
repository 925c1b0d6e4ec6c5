"""A child that the program forks has nothing to do with its sandboxes."""

from __future__ import annotations

import os
import signal
import time

import pytest

import pycontain
from pycontain.errors import StateError
from pycontain.kernel.files import start_time

pytestmark = pytest.mark.needs_root


def in_child(work) -> int:
    """The exit status of a forked child: 0 if the work returns."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_cannot_use_or_end_pools_and_sandboxes() -> None:
    with pycontain.Pool(1) as pool, pycontain.Sandbox() as box, box.session() as python:
        python.run("x = 1")

        def work() -> None:
            for call in (lambda: pool.run("1"), lambda: box.run_python("1"), lambda: box.read("x")):
                with pytest.raises(StateError, match="is closed"):
                    call()
            pool.close()
            box.close()

        assert in_child(work) == 0
        assert pool.run("2").value == 2
        assert box.run_python("3").value == 3
        assert python.run("x").value == 1


def test_a_forked_child_can_have_a_pool_and_a_sandbox_of_its_own() -> None:
    with pycontain.Pool(1) as pool:

        def work() -> None:
            with pycontain.Pool(1) as own, pycontain.Sandbox() as box:
                assert own.run("1").value == 1
                assert box.run_python("2").value == 2
            pycontain.close()

        assert in_child(work) == 0
        assert pool.run("3").value == 3


def test_a_child_does_not_keep_a_server_alive() -> None:
    """The server ends when the program does, although a child of that lives on."""
    server, told = os.pipe()
    wait, ended = os.pipe()
    program = os.fork()
    if program == 0:
        try:
            pool = pycontain.Pool(1)
            if os.fork() == 0:
                os.close(ended)
                os.read(wait, 1)  # until the test has ended
                os._exit(0)
            os.write(told, f"{pool._source._process.pid}".encode())
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    os.waitpid(program, 0)
    os.close(told)
    number = int(os.read(server, 20))
    end = time.monotonic() + 20
    while start_time(number) and time.monotonic() < end:
        time.sleep(0.05)
    assert not start_time(number), "the server has survived"
    for fd in (server, wait, ended):
        os.close(fd)
