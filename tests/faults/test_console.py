"""A terminal whose other side is dead: it refuses, hangs up, never reads, or goes away."""

from __future__ import annotations

import os
import pty
import socket
import subprocess

import pytest

from tests.bundles import LIMIT, look, wait_until

pytestmark = pytest.mark.needs_root

TERMINAL = {"process.terminal": True}


@pytest.fixture
def made(bundle):
    return bundle("yes | head -c 200000; sleep 100", TERMINAL)


@pytest.fixture
def listener(made):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(made.path / "sock"))
        yield listening


@pytest.mark.parametrize("verb", ["create", "run --detach"])
def test_a_console_socket_that_nobody_listens_to_is_an_error(runtime, made, listener, verb):
    before, id = look(), runtime.new_id()
    words = [*verb.split(), "-b", made.path, "--console-socket", made.path / "sock", id]
    assert "connection refused" in runtime.refuses(*words)
    assert look() == before
    runtime.ok("delete", "--force", id)


@pytest.mark.parametrize("verb", ["create", "run --detach"])
@pytest.mark.parametrize("peer", ["hangs up", "never accepts", "drops the terminal"])
def test_a_misbehaving_console_peer_leaves_no_half_created_container(
    runtime, made, listener, verb, peer
):
    """The container exists all the same, or not at all, and can be deleted."""
    listener.listen(1)
    before, id = look(), runtime.new_id()
    words = [*verb.split(), "-b", made.path, "--console-socket", made.path / "sock", id]
    with subprocess.Popen(
        runtime.command(*words), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as command:
        if peer != "never accepts":
            connection, _ = listener.accept()
            if peer == "drops the terminal":
                socket.recv_fds(connection, 100, 1)[1].clear()
            connection.close()
        said = command.communicate(timeout=LIMIT)[1]
    if command.returncode:
        assert said.startswith("pycontain: ")
        assert said.count("\n") == 1
        assert runtime.ids() == []
    elif verb == "create":
        runtime.ok("start", id)
    if peer == "drops the terminal":
        drop_descriptors(before)
    runtime.ok("delete", "--force", id)
    listener.close()
    now = look()
    assert (now.mounts, now.cgroups, now.processes) == (
        before.mounts, before.cgroups, before.processes,
    )  # fmt: skip


def drop_descriptors(before) -> None:
    """Close the terminals that this test has received."""
    known = {line.split()[0] for line in before.descriptors}
    for fd in os.listdir("/proc/self/fd"):
        try:
            if fd not in known and "ptmx" in os.readlink(f"/proc/self/fd/{fd}"):
                os.close(int(fd))
        except OSError:
            continue


@pytest.mark.parametrize("ends", ["at once", "later"])
def test_run_ends_when_the_callers_terminal_goes_away(runtime, made, ends):
    """The command ends, one way or the other, and its container with it or at `delete --force`."""
    before, id = look(), runtime.new_id()
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        runtime.command("run", "-b", made.path, id),
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    ) as command:  # fmt: skip
        os.close(theirs)
        if ends == "later":
            assert os.read(ours, 1) == b"y"
        os.close(ours)
        wait_until(lambda: command.poll() is not None or id in runtime.ids(), "it has begun")
        runtime.ok("delete", "--force", id)
        command.wait(timeout=LIMIT)
    runtime.ok("delete", "--force", id)
    assert runtime.ids() == []
    now = look()
    assert now == before
