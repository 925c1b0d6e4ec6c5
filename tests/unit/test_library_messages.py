"""What a program and its worker read from each other: only messages of the known shapes."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pycontain.errors import StateError
from pycontain.kernel.wait import FOREVER
from pycontain.library import pool
from pycontain.library.messages import REPLIES, REQUESTS, receive, send

WHERE: dict[str, Any] = {
    "id": "x", "root": "/r", "cgroup_manager": "cgroupfs", "cgroup_missing": "error",
}  # fmt: skip
EXEC = {
    **WHERE, "verb": "exec", "args": ["a"], "env": [], "cwd": "", "user": "", "tty": [],
    "seconds": 1.5,
}  # fmt: skip
REPLY: dict[str, Any] = {
    "pid": 7,
    "times": [["child", "mount", 5]],
    "ended": [],
    "warnings": [],
    "state": None,
}


@pytest.fixture
def ends() -> Iterator[tuple[Any, Any]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_message_arrives_with_its_descriptors(ends):
    send(ends[0], EXEC, [0, 1, 2])
    message, fds = receive(ends[1], REQUESTS, 3)
    assert message == EXEC
    assert len(fds) == 3
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (REQUESTS, {**EXEC, "args": "ls"}), (REQUESTS, {**EXEC, "args": [1]}),
        (REQUESTS, {**EXEC, "seconds": "1"}), (REQUESTS, {**EXEC, "verb": "delete"}),
        (REQUESTS, {"verb": "forget"}), (REQUESTS, {}), (REQUESTS, REPLY),
        (REPLIES, {**REPLY, "pid": "7"}), (REPLIES, {**REPLY, "ended": None}),
        (REPLIES, {**REPLY, "times": [["child", 5, 5]]}), (REPLIES, {"fault": {}}),
        (REPLIES, {**REPLY, "more": 1}), (REPLIES, EXEC),
    ],
)  # fmt: skip
def test_an_unexpected_message_is_an_error_and_leaves_no_descriptor(ends, shapes, message):
    before = os.listdir("/proc/self/fd")
    send(ends[0], message, [0, 1])
    with pytest.raises(StateError, match="is not a message of the library"):
        receive(ends[1], shapes, 3)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("data", [b"\xff" * 8, b"\1\0\0\0{", b"\2\0\0\0\xff\xff", b"\4\0\0\0null"])
def test_bytes_that_are_no_message_are_an_error(ends, data):
    ends[0].sendall(data)
    with pytest.raises(StateError, match="is not a message of the library"):
        receive(ends[1], REQUESTS, 3)


def test_the_end_of_file_is_none_and_in_a_message_an_error(ends):
    ends[0].sendall(b"\5\0\0\0{")
    ends[0].shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionResetError):
        receive(ends[1], REQUESTS, 3)
    assert receive(ends[1], REQUESTS, 3) == (None, [])


def test_a_message_that_the_other_end_would_refuse_is_not_sent(ends):
    with pytest.raises(StateError, match="longer than 32 MiB"):
        send(ends[0], {"verb": "x" * (33 << 20)}, [])


@pytest.mark.parametrize(
    "reply",
    [
        {"fault": {"why": "x", "status": -1}, "ended": [], "warnings": []},
        {"fault": {}, "ended": [], "warnings": []},
        {**REPLY, "state": {}},
        {**REPLY, "state": {"id": "x", "ociVersion": "1", "bundle": "/", "rootfs": 5}},
        REPLY,  # without a pidfd
    ],
)
def test_a_reply_that_reports_nothing_real_is_refused(reply):
    with pytest.raises((TypeError, ValueError)):
        pool._started(json.loads(json.dumps(reply)), [])


def test_a_worker_that_reports_nothing_real_is_lost_and_leaves_no_descriptor(ends):
    before = os.listdir("/proc/self/fd")
    worker = pool.Worker.__new__(pool.Worker)
    worker.socket, worker.lock = ends[0], threading.Lock()
    send(ends[1], {**REPLY, "state": {"id": "x"}}, [0])
    with pytest.raises(pool.WorkerLostError, match="has sent an invalid message"):
        worker.ask({"verb": "forget", "id": "x"}, [], FOREVER, print)
    assert os.listdir("/proc/self/fd") == before
