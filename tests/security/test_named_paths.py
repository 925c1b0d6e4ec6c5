"""
Files that a caller names in a directory of somebody else: pid files, logs, sockets, namespaces.

Whoever owns the directory can put a link or a FIFO there: root would write to a file of their
choice (CVE-2018-6954 is one of many), or wait forever.
"""

from __future__ import annotations

import array
import errno
import gc
import marshal
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from types import SimpleNamespace

import pytest

from pycontain.cli import launcher
from pycontain.errors import HostError, KernelError
from pycontain.kernel import safe_path, sockets
from pycontain.launch import steps as parent
from pycontain.lean import archive
from pycontain.plan import steps
from tests.bundles import LIMIT

pytestmark = pytest.mark.needs_root

ALICE = 12345


@pytest.fixture
def alice():
    """A directory of another user."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    path.chmod(0o755)
    os.chown(path, ALICE, ALICE)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "of-root"
    path.write_text("of root\n")
    return path


# --- pid files -----------------------------------------------------------------------------------


def test_a_link_in_the_place_of_a_pid_file_is_replaced(runtime, bundle, alice, target):
    (alice / "pid").symlink_to(target)
    runtime.output(bundle("true"), "--pid-file", alice / "pid")
    assert (alice / "pid").read_text().isdecimal()
    assert not (alice / "pid").is_symlink()
    assert target.read_text() == "of root\n"


@pytest.mark.control
def test_a_naive_pid_file_is_written_through_a_link(alice, target):
    (alice / "pid").symlink_to(target)
    (alice / "pid").write_text("123")
    assert target.read_text() == "123"


def test_a_fifo_in_the_place_of_a_pid_file_is_replaced_without_a_wait(runtime, bundle, alice):
    os.mkfifo(alice / "pid")
    runtime.output(bundle("true"), "--pid-file", alice / "pid")
    assert (alice / "pid").read_text().isdecimal()


@pytest.mark.control
def test_a_naive_pid_file_waits_for_the_reader_of_a_fifo(alice):
    os.mkfifo(alice / "pid")
    with subprocess.Popen(["sh", "-c", f"echo up; echo 123 >{alice}/pid"], stdout=-1) as naive:
        assert naive.stdout.read(2) == b"up"
        pidfd = os.pidfd_open(naive.pid)
        assert not select.select([pidfd], [], [], 0.1)[0]
        naive.kill()
        os.close(pidfd)


def written(path, pid=123):
    """Write a pid file; returns how to undo it."""
    undo = []
    launch = SimpleNamespace(child=SimpleNamespace(pid=pid), on_undo=undo.append)
    parent.write_pid_file(steps.WritePidFile(path=str(path), why=""), launch)
    return undo[0]


def test_a_pid_file_is_removed_where_it_was_written(alice, tmp_path):
    """Between the two, the directory's owner puts another one in its place."""
    run, elsewhere = alice / "run", tmp_path / "elsewhere"
    run.mkdir()
    elsewhere.mkdir()
    undo = written(run / "pid")
    (elsewhere / "pid").write_text("of another container")
    run.rename(alice / "old")
    run.symlink_to(elsewhere)
    undo()
    assert not (alice / "old/pid").exists()
    assert (elsewhere / "pid").exists()
    (run / "pid").unlink()  # as it was before
    assert not (elsewhere / "pid").exists()


def test_a_file_with_the_temporary_name_is_neither_used_nor_removed(alice, target):
    """A pid file has another name only as long as it takes to replace a file."""
    hidden = alice / f".pid.{os.getpid()}"
    hidden.symlink_to(target)
    written(alice / "pid")
    with pytest.raises(KernelError, match="file exists"):
        written(alice / "pid")
    assert hidden.is_symlink()
    assert target.read_text() == "of root\n"


def test_a_pid_file_is_written_where_no_file_can_be_without_a_name(tmp_path, monkeypatch):
    """Such as NFS."""
    opened = os.open

    def refuse(path, flags, *args, **named):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "")
        return opened(path, flags, *args, **named)

    monkeypatch.setattr(parent.os, "open", refuse)
    written(tmp_path / "pid")
    written(tmp_path / "pid", 456)
    assert os.listdir(tmp_path) == ["pid"]
    assert (tmp_path / "pid").read_text() == "456"


def test_a_pid_file_is_replaced_at_once(tmp_path):
    """It is never missing: whoever waits for the pid of a container has the old one or the new."""
    written(tmp_path / "pid")
    with (tmp_path / "pid").open() as old:
        written(tmp_path / "pid", 456)
        assert old.read() == "123"
    assert (tmp_path / "pid").read_text() == "456"
    assert os.listdir(tmp_path) == ["pid"]


def test_a_relative_pid_file_is_written_to_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    undo = written("pid")
    assert os.listdir() == ["pid"]
    undo()
    assert os.listdir() == []


# --- logs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("exists", [True, False])
def test_a_log_is_not_written_through_a_link_of_another_user(runtime, alice, target, exists):
    if not exists:
        target.unlink()
    (alice / "log").symlink_to(target)
    said = runtime.refuses("--log", alice / "log", "nonsense")
    assert f"log: {alice}/log is a link that another user could have put there" in said
    assert target.exists() == exists
    assert not exists or target.read_text() == "of root\n"


@pytest.mark.control
def test_a_naive_log_is_written_through_a_link_of_another_user(alice, target):
    (alice / "log").symlink_to(target)
    fd = os.open(alice / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"by alice's choice\n")
    os.close(fd)
    assert target.read_text() == "of root\nby alice's choice\n"


def test_a_log_is_written_through_a_link_of_ours(runtime, tmp_path, target):
    (tmp_path / "log").symlink_to(target)
    runtime("--log", tmp_path / "log", "nonsense")
    assert "is not a command" in target.read_text()


def test_a_log_in_a_directory_of_another_user_is_written(runtime, alice):
    runtime("--log", alice / "log", "nonsense")
    assert "is not a command" in (alice / "log").read_text()


@pytest.mark.parametrize("verb", ["list", "state x", "create x", "delete --force x", "--version"])
def test_no_command_waits_for_the_reader_of_a_fifo(runtime, alice, verb):
    os.mkfifo(alice / "log")
    said = runtime.refuses("--log", alice / "log", *verb.split())
    assert "is a socket, or a FIFO that nobody reads" in said
    assert runtime("--log", alice / "log", *verb.split()).status == 1


# --- sockets -------------------------------------------------------------------------------------


@pytest.fixture
def listener(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen(0)
        yield listener


def test_a_link_of_another_user_leads_to_no_socket(alice, listener):
    (alice / "console").symlink_to(listener.getsockname())
    with pytest.raises(HostError, match="is a link that another user could have put there"):
        sockets.connect(str(alice / "console"))
    with socket.socket(socket.AF_UNIX) as naive:
        naive.connect(str(alice / "console"))


def test_a_link_of_ours_leads_to_a_socket(tmp_path, listener):
    (tmp_path / "console").symlink_to("socket")
    os.close(sockets.connect(str(tmp_path / "console")))
    listener.accept()[0].close()


def test_a_descriptor_that_is_sent_arrives(tmp_path, listener):
    connection = sockets.connect(str(tmp_path / "socket"))
    assert os.get_blocking(connection)
    sockets.send(connection, 0)
    with listener.accept()[0] as accepted:
        _, [(_, _, data)], _, _ = accepted.recvmsg(10, socket.CMSG_SPACE(4))
        [fd] = array.array("i", data)
        assert os.path.samestat(os.fstat(fd), os.fstat(0))
        os.close(fd)


def test_a_path_longer_than_an_address_can_be_connected_to(tmp_path):
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    fd = os.open(folder, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{fd}/socket")
        listener.listen()
        os.close(sockets.connect(str(folder / "socket")))
        with pytest.raises(OSError, match="too long"), socket.socket(socket.AF_UNIX) as naive:
            naive.connect(str(folder / "socket"))
    os.close(fd)


def test_no_connection_waits_for_a_listener_that_does_not_accept(tmp_path, listener):
    """A queue of 0 has space for one."""
    first = sockets.connect(str(tmp_path / "socket"))
    with pytest.raises(KernelError, match="socket does not accept connections"):
        sockets.connect(str(tmp_path / "socket"))
    os.close(first)


@pytest.mark.parametrize("kind", ["fifo", "file", "directory"])
def test_a_path_that_is_no_socket_is_named(tmp_path, kind):
    path = tmp_path / "place"
    {"fifo": os.mkfifo, "file": Path.touch, "directory": os.mkdir}[kind](path)
    with pytest.raises(KernelError, match=f"connect: {path} is not a socket"):
        sockets.connect(str(path))


def test_a_failed_connection_leaves_no_descriptor_open(tmp_path, alice, listener):
    gc.collect()  # what other tests left
    before = os.listdir("/proc/self/fd")
    (alice / "console").symlink_to(tmp_path / "socket")
    (tmp_path / "file").touch()
    for path in (alice / "console", tmp_path / "file", tmp_path / "missing"):
        for _ in range(3):
            try:
                sockets.connect(str(path))
            except (HostError, KernelError):
                continue
    assert os.listdir("/proc/self/fd") == before


# --- namespaces ----------------------------------------------------------------------------------


def test_a_fifo_instead_of_a_namespace_is_refused_without_a_wait(runtime, bundle, alice):
    os.mkfifo(alice / "net")
    joined = {"type": "network", "path": f"{alice}/net"}
    others = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]
    said = runtime.fails(bundle("true", {"linux.namespaces": [joined, *others]}))
    assert f"{alice}/net is not a namespace of type net" in said


# --- the code archive and the program ------------------------------------------------------------

HOSTILE = "def start(*_):\n    print('code from the archive', flush=True)"


@pytest.fixture
def packed(tmp_path, monkeypatch):
    """A code archive; loading it prints a line."""
    path = tmp_path / "archive"
    head = marshal.dumps((compile(HOSTILE, "archive", "exec"), {}, {}, (0, 0)))
    path.write_bytes(MAGIC_NUMBER + len(head).to_bytes(8, "little") + head)
    path.chmod(0o644)
    monkeypatch.setattr(archive, "file", lambda: str(path))
    return path


def loads_archive():
    """Whether the program loads the code archive; it must run in any case."""
    code = archive.boot("pass", "os:getuid")
    command = [sys.executable, archive.FLAGS, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True)
    assert done.stderr == ""
    return done.stdout == "code from the archive\n"


def test_an_archive_of_roots_is_loaded(packed):
    assert loads_archive()


def test_an_archive_of_the_owner_of_the_source_is_loaded(packed, tmp_path, monkeypatch):
    source = tmp_path / "archive.py"
    source.touch()
    os.chown(source, ALICE, ALICE)
    os.chown(packed, ALICE, ALICE)
    assert not loads_archive()
    monkeypatch.setattr(archive, "__file__", str(source))
    assert loads_archive()


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_an_archive_that_others_can_write_to_is_not_loaded(packed, mode):
    packed.chmod(mode)
    assert not loads_archive()


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_an_archive_in_a_directory_that_others_can_write_to_is_not_loaded(packed, mode):
    packed.parent.chmod(mode)
    assert not loads_archive()


def test_an_archive_in_a_directory_of_another_user_is_not_loaded(packed, monkeypatch, tmp_path):
    assert loads_archive()
    os.chown(tmp_path, ALICE, ALICE)
    assert not loads_archive()


def test_an_archive_for_another_version_of_the_byte_code_is_not_loaded(packed):
    content = packed.read_bytes()
    packed.write_bytes(bytes(4) + content[4:])
    assert not loads_archive()


def test_an_archive_behind_a_link_is_not_loaded(packed):
    packed.rename(packed.parent / "other")
    packed.symlink_to("other")
    assert not loads_archive()


def test_a_fifo_in_the_place_of_an_archive_is_not_waited_for(packed):
    packed.unlink()
    os.mkfifo(packed)
    assert not loads_archive()


def test_without_an_archive_modules_are_imported_in_the_ordinary_way(packed):
    packed.unlink()
    assert not loads_archive()


@pytest.mark.parametrize("umask", [0, 0o077])
def test_the_archive_and_the_program_are_readable_to_all_whatever_the_umask(
    tmp_path, monkeypatch, umask
):
    monkeypatch.setattr(launcher, "interpreter", lambda: sys.executable)  # seals nothing
    before = os.umask(umask)
    try:
        launcher.write(str(tmp_path / "pycontain"))
    finally:
        os.umask(before)
    modes = [os.stat(path).st_mode & 0o777 for path in (tmp_path / "pycontain", archive.file())]
    assert modes == [0o755, 0o644]


def test_the_program_is_not_written_through_a_planted_link(alice, target):
    """As it was: a temporary file with a name that another user can know."""
    naive = alice / f"pycontain.{os.getpid()}"
    naive.symlink_to(target)
    launcher.write(str(alice / "pycontain"))
    assert target.read_text() == "of root\n"
    assert sorted(os.listdir(alice)) == ["pycontain", naive.name]
    naive.write_text("by alice's choice")
    assert target.read_text() == "by alice's choice"


# --- the rule itself -----------------------------------------------------------------------------


def test_a_descriptor_can_be_named_as_a_log(tmp_path):
    """/dev/stderr leads to such a link, in a directory of /proc that is ours."""
    reader, writer = os.pipe()
    with open(
        safe_path.open_named(f"/proc/self/fd/{writer}", os.O_WRONLY | os.O_NONBLOCK), "w"
    ) as pipe:
        pipe.write("up")
    assert os.read(reader, 10) == b"up"
    for fd in (reader, writer):
        os.close(fd)


def test_the_directories_of_a_named_file_are_the_callers_business(alice):
    """As in runc; a link in them that another user has put there leads to a file all the same."""
    (alice / "way").symlink_to(".")
    os.close(safe_path.open_named(f"{alice}/way/file", os.O_WRONLY | os.O_CREAT))
    assert (alice / "file").exists()
