"""`Container.exec`: user, directory, environment, time limit and terminal."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

import pycontain
from tests.bundles import Bundle, Bundles

pytestmark = pytest.mark.needs_root
PASSWD = """root:x:0:0:root:/:/bin/sh
bob:x:1000:1001:Bob:/tmp:/bin/sh
1234:x:0:0:a trap:/:/bin/sh
broken
huge:x:x:1
"""
GROUP = """root:x:0:
staff:x:50:alice,bob
bob:x:1001:
wheel:x:10:bob
"""


@pytest.fixture
def made(bundle: Bundles) -> Bundle:
    """A bundle with users."""
    made = bundle("sleep 1000")
    (made.rootfs / "etc/passwd").write_text(PASSWD)
    (made.rootfs / "etc/group").write_text(GROUP)
    return made


@pytest.fixture
def container(made: Bundle, options) -> Iterator[pycontain.Container]:
    """A running container of it."""
    with pycontain.Container(made.path, options=options) as container:
        container.create()
        container.start()
        yield container


IDS = ["sh", "-c", "echo $(id -u):$(id -g):$(id -G)"]


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        ("", "0:0:0"),
        (1000, "1000:0:0"),
        ("1000", "1000:0:0"),
        ("1000:7", "1000:7:7"),
        ("bob", "1000:1001:1001 10 50"),
        ("bob:staff", "1000:50:50"),
        ("bob:7", "1000:7:7"),
        ("7:staff", "7:50:50"),
        ("1234", "1234:0:0"),  # a number is never a name: CVE-2016-3697
    ],
)
def test_exec_runs_as_a_user_of_the_container(container, user: Any, ids: str) -> None:
    assert container.exec(IDS, user=user).stdout.decode().strip() == ids


@pytest.mark.parametrize(
    "user", ["carol", "bob:nosuch", "huge", "broken", ":", "-1", "bob:", "0x1"]
)
def test_a_user_that_the_container_does_not_have_is_an_error(container, user: str) -> None:
    with pytest.raises(pycontain.UsageError, match="is not a (user|group) of the container"):
        container.exec(IDS, user=user)


def test_a_user_is_text_or_a_number(container) -> None:
    with pytest.raises(pycontain.UsageError, match=r"user = 1\.5 is not a user"):
        container.exec(IDS, user=1.5)


def test_a_link_to_the_hosts_users_leads_to_the_containers(made: Bundle, container) -> None:
    """control: resolved by name, the link leads to a file of the host."""
    host = made.path / "passwd"
    host.write_text("eve:x:0:0:::\n")
    (made.rootfs / "etc/passwd").unlink()
    (made.rootfs / "etc/passwd").symlink_to(f"/../../../../../..{host}")
    assert "eve" in (made.rootfs / "etc/passwd").read_text()
    with pytest.raises(pycontain.UsageError, match="'eve' is not a user"):
        container.exec(IDS, user="eve")


def test_a_fifo_instead_of_users_does_not_block(made: Bundle, container) -> None:
    (made.rootfs / "etc/passwd").unlink()
    os.mkfifo(made.rootfs / "etc/passwd")
    with pytest.raises(pycontain.UsageError, match="'bob' is not a user"):
        container.exec(IDS, user="bob", timeout=30)


def test_exec_accepts_a_directory_an_environment_and_a_shell_line(container) -> None:
    result = container.exec(
        "pwd; echo $WHO | tr a-z A-Z", shell=True, cwd="/tmp", env={"WHO": "me"}
    )
    assert result.stdout == b"/tmp\nME\n"


def test_exec_without_a_command_is_refused(container) -> None:
    for args in ([], None):
        with pytest.raises(pycontain.UsageError, match="is empty"):
            container.exec(args)


def test_a_time_limit_ends_the_program_alone(container) -> None:
    with pytest.raises(pycontain.Timeout) as caught:
        container.exec("echo x; exec sleep 100", shell=True, timeout=0.5)
    assert caught.value.stdout == b"x\n"
    assert container.state()["status"] == "running"
    assert container.exec(["ps"]).stdout.count(b"sleep 100\n") == 0


def test_too_much_output_ends_the_program_alone(container) -> None:
    result = container.exec(["yes"], max_output=10)
    assert (result.reason, result.stdout) == ("output", b"y\n" * 5)
    assert container.exec(["true"]).status == 0


# --- terminals -----------------------------------------------------------------------------------


def test_exec_with_a_terminal_has_a_terminal_of_the_given_size(container) -> None:
    command = "tty; stty size; test -t 0 -a -t 1 -a -t 2 && echo yes; exit 5"
    result = container.exec(command, shell=True, tty=(33, 77))
    assert result.stdout.split() == [b"/dev/pts/0", b"33", b"77", b"yes"]
    assert (result.status, result.stderr) == (5, b"")


@pytest.mark.parametrize("typed", [b"hello\n", b"hello", b""])
def test_input_is_typed_into_the_terminal_and_ends(container, typed: bytes) -> None:
    result = container.exec(
        ["sh", "-c", "stty -echo; cat; echo ."], tty=True, stdin=typed, timeout=60
    )
    assert result.stdout.replace(b"\r\n", b"\n").removeprefix(typed).endswith(b".\n")
    assert typed.strip() in result.stdout


def test_all_output_of_the_terminal_comes_back(container) -> None:
    result = container.exec(["seq", "20000"], tty=True)
    assert result.stdout.split() == [b"%d" % number for number in range(1, 20001)]


def test_a_flood_on_a_terminal_is_bounded(container) -> None:
    result = container.exec(["yes"], tty=True, max_output=1000)
    assert (result.reason, len(result.stdout)) == ("output", 1000)


def test_a_time_limit_holds_on_a_terminal(container) -> None:
    began = time.monotonic()
    with pytest.raises(pycontain.Timeout):
        container.exec(["sleep", "100"], tty=True, timeout=0.3)
    assert time.monotonic() - began < 50


@pytest.mark.parametrize("size", [1, (1,), (1, 2, 3), ("1", "2"), (-1, 2), (1, 65536), [1, 2]])
def test_an_invalid_terminal_size_is_refused(container, size: Any) -> None:
    with pytest.raises(pycontain.UsageError, match="tty = "):
        container.exec(["true"], tty=size)


def test_exec_leaves_no_descriptor_open(container) -> None:
    container.exec(["true"], tty=True, user="bob")
    before = os.listdir("/proc/self/fd")
    for _ in range(5):
        container.exec(["true"], tty=True, user="bob")
        with pytest.raises(pycontain.UsageError):
            container.exec(["true"], tty=True, user="nobody")
    assert os.listdir("/proc/self/fd") == before
