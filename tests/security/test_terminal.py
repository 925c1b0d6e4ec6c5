"""
Terminals: CVE-2017-5226 and CVE-2020-5291 (typing into the caller's), CVE-2025-52565 (a terminal
that was swapped before it was mounted on /dev/console).
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import termios
from pathlib import Path

import pytest

from tests.security.attack import PYTHON, bind_by_path, give_python, in_a_child, python, snapshot

pytestmark = pytest.mark.needs_root

LEGACY = Path("/proc/sys/dev/tty/legacy_tiocsti")
INJECT = """
import fcntl, os
for path in ("/dev/tty", "/proc/self/fd/0"):
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        print("opened", path)
        fcntl.ioctl(fd, 0x5412, b"!")  # TIOCSTI
        print("TYPED", path)
    except OSError as error:
        print(error)
try:
    fcntl.ioctl(0, 0x540E, 0)  # TIOCSCTTY
    print("STOLEN")
except OSError as error:
    print(error)
"""


@pytest.fixture
def caller():
    """A controlling terminal for a command: (master, keyword arguments)."""
    master, slave = os.openpty()

    def take():
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    yield master, {"stdin": slave, "preexec_fn": take}
    os.close(master)
    os.close(slave)


def typed(master):
    """The input that the caller's shell would read."""
    os.set_blocking(master, False)
    try:
        return os.read(master, 100)
    except BlockingIOError:
        return b""


# CAP_SYS_ADMIN may type into any terminal (tty_ioctl(4)), and without legacy_tiocsti nobody else.
ADMIN = {"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]}


def test_the_callers_terminal_is_out_of_reach_of_the_container(runtime, bundle, caller):
    master, how = caller
    made = bundle("", {"process.args": python(INJECT), "process.capabilities": ADMIN})
    give_python(made)
    out = runtime.run(made, **how).out
    assert "opened /dev/tty" not in out
    assert "opened /proc/self/fd/0" in out
    assert "TYPED" not in out
    assert "STOLEN" not in out
    assert typed(master) == b""


def test_the_callers_terminal_is_out_of_reach_of_an_exec(runtime, bundle, caller):
    master, how = caller
    made = bundle("sleep 100", {"process.capabilities": ADMIN})
    give_python(made)
    container = runtime.started(made)
    out = runtime("exec", container, *python(INJECT), **how).out
    assert "opened /dev/tty" not in out
    assert "TYPED" not in out
    assert typed(master) == b""


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_the_callers_terminal_keeps_its_owner(runtime, bundle, caller, verb):
    """Its owner could open it after the container has ended, and read what the caller types."""
    _, how = caller
    before = owner(how["stdin"])
    if verb == "run":
        done = runtime.run(bundle("id -u", {"process.user": {"uid": 1000, "gid": 1000}}), **how)
    else:
        id = runtime.started(bundle("sleep 100"))
        done = runtime("exec", "--user", "1000", id, "id", "-u", **how)
    assert done.words == ["1000"]
    assert owner(how["stdin"]) == before


def owner(fd):
    found = os.fstat(fd)
    return found.st_uid, found.st_gid, found.st_mode


@pytest.mark.control
def test_a_naive_container_keeps_the_callers_terminal(caller):
    """Without a session of its own. The kernel may refuse TIOCSTI altogether."""
    master, how = caller
    done = subprocess.run(
        [PYTHON, "-ISc", INJECT], stdout=subprocess.PIPE, text=True, check=True, **how
    )
    assert "opened /dev/tty" in done.stdout
    if LEGACY.exists() and LEGACY.read_text() == "1\n":
        assert "TYPED /dev/tty" in done.stdout
        assert b"!" in typed(master)


# --- /dev/console --------------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    folder.mkdir()
    for name in ("console", "ptmx", "0"):
        (folder / name).write_text("host\n")
    return folder


def with_terminal(bundle, script, mounts):
    made = bundle(script, {"process.terminal": True})
    made.edit({"mounts": mounts(made.config["mounts"], made)})
    return made


def without_dev(mounts, _):
    return mounts[:1]


def test_a_terminal_comes_only_from_a_devpts(runtime, bundle, outside, terminal):
    """A volume in place of /dev/pts, in which every name is a link that can be swapped at will."""

    def shared(mounts, made):
        pts = {"destination": "/dev/pts", "type": "bind", "source": "pts", "options": ["bind"]}
        (made.path / "pts").mkdir()
        for name in ("ptmx", "0", "1"):
            (made.path / "pts" / name).symlink_to("/etc/file")
        (made.rootfs / "etc/file").write_text("inside\n")
        return [*mounts[:2], pts]

    assert "devpts" in runtime.fails(with_terminal(bundle, "true", shared), stdin=terminal)


def test_a_console_that_is_a_link_leads_nowhere_outside(runtime, bundle, outside, terminal):
    def links(mounts, made):
        for place in ("console", "ptmx"):
            (made.rootfs / "dev" / place).symlink_to(outside / place)
        (made.rootfs / "dev/pts").mkdir()
        return [mounts[0], mounts[2]]

    before = snapshot(outside)
    runtime.run(with_terminal(bundle, "echo x > /dev/console", links), stdin=terminal)
    assert snapshot(outside) == before


def test_the_console_is_the_terminal_itself(runtime, bundle, terminal):
    made = bundle(
        "tty; stat -c %t:%T /dev/console /dev/pts/0; echo x > /dev/console",
        {"process.terminal": True},
    )
    assert runtime.run(made, stdin=terminal).words == ["/dev/pts/0", "88:0", "88:0", "x"]


@pytest.mark.control
def test_a_naive_console_is_what_the_name_leads_to(bundle, outside):
    made = bundle("")
    (made.rootfs / "dev/pts").mkdir()
    (made.rootfs / "dev/pts/0").symlink_to(outside / "0")
    (made.rootfs / "dev/console").touch()

    def run():
        bind_by_path(made.rootfs / "dev/pts/0", made.rootfs / "dev/console")
        return (made.rootfs / "dev/console").read_text()

    assert in_a_child(run) == "host\n"
