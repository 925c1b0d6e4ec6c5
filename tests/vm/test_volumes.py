"""Directories and files of the host that a program in the VM is given beside its root."""

from __future__ import annotations

import os
import stat

import pytest

from pycontain.errors import ProgramError, UsageError
from pycontain.vm import Volume
from tests.vm.programs import BUSYBOX, busybox, compile_c, files, run

__all__ = ["compile_c", "files"]  # fixtures


@pytest.fixture
def data(files):
    """A writable volume at /data, and one to read at /code."""
    (files / "out").mkdir()
    (files / "out/old").write_text("old\n")
    return (
        Volume(host=str(files / "out"), guest="/data", writable=True),
        Volume(host=str(files / "dir"), guest="/code"),
    )


def test_volumes_are_found_beside_the_program(files, data):
    assert sorted(busybox("ls", "/", volumes=data)[1].split()) == [b"bin", b"code", b"data"]
    assert busybox("cat", "/data/old", volumes=data)[1] == b"old\n"
    assert busybox("cat", "/code/../data/old", volumes=data)[1] == b"old\n"
    assert busybox("pwd", cwd="/data", volumes=data)[1] == b"/data\n"
    assert busybox("cat", "../data/old", cwd="/code", volumes=data)[1] == b"old\n"


def test_a_program_in_a_volume_is_started_by_its_path_in_the_guest(files):
    tools = (Volume(host=str(files / "bin"), guest="/tools"),)
    assert not os.path.exists("/tools")
    status, output, _, _ = run("/tools/busybox", "find", "/", volumes=tools)
    assert (status, output.decode().split()) == (0, ["/", "/tools", "/tools/busybox"])
    with pytest.raises(ProgramError, match="/tools/missing no such file or directory"):
        run("/tools/missing", volumes=tools)


def test_a_volume_is_read_only_unless_requested_as_writable(files, data):
    for path in ("/code/new", "/new", "/bin/busybox", "/bin/new"):
        status, _, errors = busybox("sh", "-c", f"echo x > {path}", volumes=data)
        assert status != 0
        assert b"Read-only file system" in errors
    assert not (files / "dir/new").exists()
    assert (files / "bin/busybox").stat().st_size == os.stat(BUSYBOX).st_size


def test_files_in_a_writable_volume_are_created_overwritten_and_appended_to(files, data, engine):
    script = "echo new > /data/new; echo more >> /data/new; echo over > /data/old"
    assert busybox("sh", "-c", script, volumes=data, engine=engine) == (0, b"", b"")
    assert busybox("cat", "/data/new", volumes=data, engine=engine)[1] == b"new\nmore\n"
    assert (files / "out/new").read_text() == "new\nmore\n"
    assert (files / "out/old").read_text() == "over\n"


CREATE = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#define CHECK(c) if (!(c)) { printf("line %d: %s\n", __LINE__, #c); return 1; }
int main(void) {
    char c[8] = "";
    CHECK(open("/data/suid", O_RDWR | O_CREAT | O_EXCL, 06777) == 3);
    CHECK(write(3, "abc", 3) == 3 && lseek(3, 0, SEEK_SET) == 0 && read(3, c, 8) == 3);
    CHECK(c[2] == 'c' && read(3, c, 8) == 0);
    CHECK(open("/data/suid", O_RDWR | O_CREAT | O_EXCL, 0600) == -1 && errno == EEXIST);
    CHECK(open("/data/owned", O_WRONLY) == -1 && errno == EPERM);
    CHECK(open("/data/owned", O_RDONLY | O_TRUNC) == -1 && errno == EPERM);
    CHECK(open("/data/out", O_WRONLY | O_CREAT, 0600) == -1 && errno == EEXIST);
    CHECK(open("/data/fifo", O_WRONLY) == -1 && errno == EACCES);
    CHECK(open("/data", O_WRONLY) == -1 && errno == EISDIR);
    CHECK(open("/data/.", O_WRONLY | O_CREAT, 0600) == -1 && errno == EISDIR);
    CHECK(open("/data/missing", O_WRONLY) == -1 && errno == ENOENT);
    CHECK(open("/data/missing/new", O_WRONLY | O_CREAT, 0600) == -1 && errno == ENOENT);
    CHECK(open("/data/../../../elsewhere/new", O_WRONLY | O_CREAT, 0600) == -1 && errno == ENOENT);
    CHECK(open("/data/suid", 3) == -1 && errno == EINVAL);
    CHECK(open("/data/suid", O_WRONLY) == 4 && read(4, c, 1) == -1 && errno == EBADF);
    CHECK(access("/data/suid", W_OK) == 0);
    puts("fine");
    return 0;
}
"""


def test_what_is_created_gives_no_rights_and_stays_in_its_volume(compile_c, files, data, engine):
    outside = files / "victim"
    (files / "out/out").symlink_to(outside)
    os.mkfifo(files / "out/fifo")
    (files / "out/owned").write_text("of its owner")
    (files / "out/owned").chmod(0o4755)
    assert run(compile_c(CREATE), volumes=data, engine=engine)[1] == b"fine\n"
    assert not outside.exists()
    assert stat.S_IMODE((files / "out/suid").stat().st_mode) & 0o7000 == 0
    assert (files / "out/owned").read_text() == "of its owner"


def test_links_are_followed_within_their_own_volume(files, data):
    (files / "out/host").symlink_to("/etc/passwd")
    (files / "out/up").symlink_to("../code")
    (files / "out/own").symlink_to("/old")
    assert busybox("cat", "/data/own", volumes=data)[1] == b"old\n"
    for path in ("/data/host", "/data/up/link", "/code/out"):
        assert busybox("cat", path, volumes=data)[:2] == (1, b"")


def test_a_volume_covers_what_is_at_its_path_in_the_root(files, data):
    (files / "data").mkdir()
    (files / "code").mkdir()
    root = str(files)
    assert run("/bin/busybox", "cat", "/data/old", root=root, volumes=data)[1] == b"old\n"
    assert run("/bin/busybox", "head", "-n1", "/text", root=root, volumes=data)[1] == b"one two\n"
    (files / "code").rmdir()
    (files / "code").write_text("")
    with pytest.raises(UsageError, match=r"/code has no place: .*; create it in the root"):
        run("/bin/busybox", root=root, volumes=data)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([("/missing", "/data")], "volume = /missing does not exist"),
        ([("/etc", "data")], "volume = /etc:data does not name an absolute path below /"),
        ([("/etc", "/x/..")], "does not name an absolute path below /"),
        ([("/etc", "/a"), ("/usr", "/b/../a")], "has the place of another volume"),
        ([("/etc", "/a"), ("/etc", "/a/missing")], "has no place"),
        ([("/proc", "/a")], "volume = /proc shows the kernel, not files"),
        ([("/sys/kernel", "/a")], "shows the kernel, not files"),
        ([("/dev/null", "/a")], "is neither a directory nor a regular file"),
    ],
)
def test_a_volume_that_cannot_be_used_is_refused_in_one_line(given, words):
    before = sorted(os.listdir("/proc/self/fd"))
    volumes = tuple(Volume(host=host, guest=guest) for host, guest in given)
    with pytest.raises(UsageError, match=words) as caught:
        run(BUSYBOX, volumes=volumes)
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir("/proc/self/fd")) == before
