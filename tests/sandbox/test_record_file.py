"""The file of `record=` may be in a directory of somebody else, who can put anything in its place."""

from __future__ import annotations

import os

import pytest

from pycontain.errors import HostError, KernelError
from pycontain.sandbox import log
from pycontain.sandbox.result import SandboxResult

pytestmark = pytest.mark.needs_root

USER = 54321


class Ended:
    """As much of a result as a record tells."""

    status, reason, signal, wall, cpu_time, memory_peak = 0, "exit", 0, 0.1, 0.1, 1
    hits, error, stdout, stderr = (), "", b"", b""


@pytest.fixture
def place(tmp_path):
    """A directory that belongs to another user."""
    directory = tmp_path / "theirs"
    directory.mkdir()
    os.chown(directory, USER, USER)
    return directory


def record(path) -> SandboxResult:
    return log.noted("pool", b"print(1)", Ended(), path)


def test_a_link_of_another_user_is_not_followed(place):
    secret = place.parent / "secret"
    secret.write_text("unchanged")
    (place / "log").symlink_to(secret)
    with pytest.raises(HostError, match="link that another user could have put there"):
        record(place / "log")
    assert secret.read_text() == "unchanged"


@pytest.mark.control
def test_opened_as_usual_it_is(place):
    secret = place.parent / "secret"
    secret.write_text("")
    (place / "log").symlink_to(secret)
    with open(place / "log", "a") as file:
        file.write("more")
    assert secret.read_text() == "more"


def test_a_fifo_without_a_reader_is_an_error_at_once(place):
    os.mkfifo(place / "log")
    with pytest.raises(KernelError, match="record"):
        record(place / "log")


def test_a_fifo_that_is_full_delays_nothing(place):
    os.mkfifo(place / "log")
    reader = os.open(place / "log", os.O_RDONLY | os.O_NONBLOCK)
    for _ in range(1000):  # a pipe has room for 64 KiB
        record(place / "log")
    assert os.read(reader, 10).startswith(b'{"time"')
    os.close(reader)


def test_a_file_gets_a_line_for_each_run(tmp_path):
    for _ in range(2):
        record(tmp_path / "log")
    assert (tmp_path / "log").read_text().count("\n") == 2
