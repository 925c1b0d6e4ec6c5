"""A file of the host is looked at before it is opened for a program in the VM."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import stat
import subprocess
import sys

import pytest

from pycontain.cli import vm as command
from pycontain.errors import ProgramError, UsageError
from pycontain.kernel.calls import openat2
from pycontain.vm import Volume
from pycontain.vm import view as views
from tests.vm.programs import BUSYBOX, busybox, compile_c, files, run

__all__ = ["compile_c", "files"]  # fixtures


WRITER = """
import os, signal, sys
class Asked(Exception): pass
def ask(*_): raise Asked
signal.signal(signal.SIGTERM, ask)
try:
    print("ready", flush=True)
    os.open(sys.argv[1], os.O_WRONLY)
    while True:
        signal.pause()
except Asked:
    own = [os.stat(f"/proc/self/fd/{fd}") for fd in range(3, 10)
           if os.path.lexists(f"/proc/self/fd/{fd}")]
    fifo = os.stat(sys.argv[1])
    print("woken" if any(os.path.samestat(one, fifo) for one in own) else "waiting")
"""


@pytest.fixture
def waiting(tmp_path):
    """A FIFO at whose other end a process waits, and a function that says what became of it."""
    os.mkfifo(tmp_path / "fifo")
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, tmp_path / "fifo"], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout
    assert writer.stdout.readline() == "ready\n"
    while True:
        with open(f"/proc/{writer.pid}/stat") as file:
            if file.read().rpartition(")")[2].split()[0] == "S":  # sleeps: in open(2)
                break

    def outcome():
        writer.send_signal(signal.SIGTERM)
        return writer.communicate(timeout=20)[0].strip()

    yield outcome
    writer.kill()
    writer.communicate()


@pytest.fixture
def opens_at_once(monkeypatch):
    """The naive way: open with O_NONBLOCK, then look at what was opened."""
    looks = views.View.find

    def naive(self, path, flags=0):
        place, rest = self._place(path)
        fd = openat2(place.fd, rest, flags | os.O_RDONLY | os.O_NONBLOCK, views._RULES)
        os.close(fd)
        return looks(self, path, flags)

    monkeypatch.setattr(views.View, "find", naive)


def read_fifo(files):
    status, _, errors = busybox("cat", "/fifo", root=str(files), timeout=20)
    assert status == 1
    assert b"Permission denied" in errors


def test_a_process_that_waits_at_a_fifo_is_not_woken(files, waiting):
    read_fifo(files)
    busybox("cat", "/fifo", volumes=(Volume(host=str(files / "dir"), guest="/fifo"),))
    with pytest.raises(ProgramError, match="/fifo is not a regular file"):
        run("/fifo", root=str(files))
    with pytest.raises(ProgramError, match="fifo is not a regular file"):
        run(str(files / "fifo"))
    with pytest.raises(UsageError, match="is neither a directory nor a regular file"):
        run(BUSYBOX, volumes=(Volume(host=str(files / "fifo"), guest="/fifo"),))
    assert command._is_program(str(files / "fifo"))
    assert waiting() == "waiting"


def test_opening_files_to_inspect_them_would_wake_the_process(files, waiting, opens_at_once):
    read_fifo(files)
    assert waiting() == "woken"


class Opens:
    """Whether files are opened, from inotify(7): looking with O_PATH is no event."""

    def __init__(self, *paths):
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK)
        in_open = 0x20
        for path in paths:
            assert libc.inotify_add_watch(self.fd, os.fsencode(path), in_open) > 0

    def any(self):
        try:
            return bool(os.read(self.fd, 4096))
        except BlockingIOError:
            return False


@pytest.fixture
def devices(files):
    """A root with device nodes, and a watch on them."""
    nodes = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "kmsg": (1, 11)}
    try:
        for name, number in nodes.items():
            os.mknod(files / name, stat.S_IFCHR | 0o666, os.makedev(*number))
        os.close(os.open(files / "null", os.O_RDONLY))
    except PermissionError:
        pytest.skip("needs the right to make and open device nodes")
    watch = Opens(*(files / name for name in nodes))
    yield watch
    os.close(watch.fd)


def use_devices(files):
    root = str(files)
    status, _, errors = busybox("head", "-c1", "/kmsg", root=root)
    assert status == 1
    assert b"Permission denied" in errors
    assert busybox("cat", "/null", root=root)[:2] == (0, b"")
    assert busybox("head", "-c", "100000", "/zero", root=root)[1] == bytes(100000)
    assert busybox("head", "-c", "3", "/full", root=root)[1] == bytes(3)
    random = busybox("head", "-c", "32", "/random", root=root)[1]
    assert len(set(random)) > 4
    assert busybox("sh", "-c", "echo x > /null && echo y >> /zero", root=root)[0] == 0
    status, _, errors = busybox("dd", "if=/text", "of=/full", root=root)
    assert status == 1
    assert b"No space left" in errors


def test_no_device_is_opened_and_stateless_devices_work(files, devices, needs_kvm):
    use_devices(files)
    assert not devices.any()


def test_opening_files_to_inspect_them_would_open_devices(
    files, devices, opens_at_once, needs_kvm, unjailed
):
    use_devices(files)
    assert devices.any()


def test_a_socket_does_not_open(files, monkeypatch):
    monkeypatch.chdir(files)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        status, _, errors = busybox("cat", "/socket", root=str(files))
    assert status == 1
    assert b"Permission denied" in errors


@pytest.mark.parametrize("way", ["as it is", "by its path"])
def test_the_opened_file_is_the_one_that_was_inspected(files, monkeypatch, unjailed, way):
    (files / "other").write_text("swapped in\n")
    opens = views.Found.open

    def swaps(found, flags):
        is_text = found.info.st_size == 14000
        if is_text:
            os.rename(files / "other", files / "text")
        if is_text and way == "by its path":
            return os.open(files / "text", flags)
        return opens(found, flags)

    monkeypatch.setattr(views.Found, "open", swaps)
    content = busybox("head", "-n1", "/text", root=str(files))[1]
    assert content == (b"one two\n" if way == "as it is" else b"swapped in\n")
