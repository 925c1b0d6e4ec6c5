"""What a program in the VM is shown of its host, and how its files are opened."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest

from pycontain.cli import vm as command
from pycontain.errors import ProgramError, UsageError
from pycontain.kernel.calls import openat2
from pycontain.vm import Volume, World
from pycontain.vm import view as views
from pycontain.vm.open_file import OpenFile
from pycontain.vm.personality import process
from pycontain.vm.program import run_program
from tests.vm.programs import compile_c, files, run

__all__ = ["compile_c", "files"]  # fixtures


BUSYBOX = "/bin/busybox"  # in the root that `files` makes, too


def busybox(*words, **world):
    """Status, output and errors of an applet."""
    return run(BUSYBOX, *words, **world)[:3]


# --- the program alone -------------------------------------------------------------------------


def test_without_a_root_a_program_sees_itself_alone(engine):
    status, output, _ = busybox("find", "/", engine=engine)
    assert (status, output.decode().split()) == (0, ["/", "/bin", "/bin/busybox"])


def test_the_host_s_files_are_out_of_sight_unless_they_are_asked_for(files, engine):
    secret = str(files / "text")
    status, output, errors = busybox("cat", secret, engine=engine)
    assert (status, output) == (1, b"")
    assert b"No such file" in errors
    for given in ({"root": "/"}, {"volumes": (Volume(host=secret, guest=secret),)}):
        assert busybox("cat", secret, engine=engine, **given)[1] == (files / "text").read_bytes()


def test_the_default_of_the_library_is_the_same():
    assert (World().root, World().volumes, World().cwd) == ("", (), "/")


@pytest.mark.parametrize("path", ["./bin/busybox", "../bin/busybox", "bin/busybox"])
def test_a_relative_path_shows_nothing_of_where_the_caller_is(files, monkeypatch, path):
    (files / "dir/bin").symlink_to("../bin")
    monkeypatch.chdir(files / "dir")
    status, output, _, _ = run(path, "find", "/")
    assert (status, output.decode().split()) == (0, ["/", "/bin", "/bin/busybox"])
    assert run(path, "pwd")[1] == b"/\n"
    assert run(path, "cmp", path, "/bin/busybox")[0] == 0  # by the name it was started with


def test_a_directory_given_as_program_is_not_shown(monkeypatch):
    added = []
    monkeypatch.setattr(views.View, "_put", lambda _, path, place: added.append((path, place)))
    for path in ("/", "/etc", "."):
        with pytest.raises(ProgramError, match="is not a regular file"):
            run(path)
    assert added == []


STATUS = r"""
#include <fcntl.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>
static void show(struct stat *s) {
    printf("%ld %ld %d %d %ld %ld\n", (long)s->st_dev, (long)s->st_ino, s->st_uid, s->st_gid,
           (long)s->st_mtime, (long)s->st_atime);
}
int main(int argc, char **argv) {
    struct stat s;
    stat(argv[0], &s); show(&s);
    fstat(open(argv[0], O_RDONLY), &s); show(&s);
    for (int fd = 0; fd < 3; fd++) { fstat(fd, &s); show(&s); }
    printf("%d %d %d %d %ld %ld\n", getuid(), geteuid(), getgid(), getegid(),
           getauxval(AT_UID), getauxval(AT_EGID));
    return 0;
}
"""


def statuses(path, tmp_path, **world):
    """The rows that STATUS prints, with files for all three streams."""
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
    streams = [os.open(tmp_path / name, flags) for name in ("in", "out", "err")]
    names = ("stdin", "stdout", "stderr")
    run_program([path], world=World(**dict(zip(names, streams, strict=True)), **world), timeout=60)
    for fd in streams:
        os.close(fd)
    output = (tmp_path / "out").read_text()
    return [[int(word) for word in row.split()] for row in output.splitlines()]


def test_whose_the_files_are_that_it_was_given_is_not_shown(compile_c, tmp_path, needs_kvm):
    path = compile_c(STATUS)
    *rows, identity = statuses(path, tmp_path)
    assert [row[0] for row in rows] == [1] * 5
    assert [row[2:] for row in rows] == [[0, 0, 0, 0]] * 5
    assert len({row[1] for row in rows}) == 4  # the program is one file, each stream another
    assert identity == [0] * 6
    own = os.stat(path)
    assert statuses(path, tmp_path, root="/")[0][:2] == [own.st_dev, own.st_ino]  # asked for


def test_the_user_who_runs_it_is_not_shown(compile_c, tmp_path, needs_kvm, monkeypatch):
    for call in ("getuid", "geteuid", "getgid", "getegid"):
        monkeypatch.setattr(os, call, lambda: 4321)
    path = compile_c(STATUS)
    assert 4321 not in statuses(path, tmp_path)[-1]
    monkeypatch.setattr(process, "_UID", os.getuid())
    assert 4321 in statuses(path, tmp_path)[-1]


OUTPUT_READ = r"""
#include <sys/mman.h>
#include <unistd.h>
int main(void) {
    char c[16];
    lseek(1, 0, SEEK_SET);
    if (read(1, c, 16) > 0) return 1;
    if (pread(1, c, 16, 0) > 0) return 2;
    if (mmap(0, 4096, PROT_READ, MAP_PRIVATE, 1, 0) != MAP_FAILED) return 3;
    if (write(0, c, 16) > 0) return 4;
    return 0;
}
"""


def test_a_stream_open_for_both_is_for_one_direction(compile_c, files, engine, monkeypatch):
    both = os.open(files / "text", os.O_RDWR)  # as a terminal is, or a log that is appended to
    path = compile_c(OUTPUT_READ)

    def status():
        world = World(stdin=both, stdout=both)
        return run_program([path], world=world, timeout=60, engine=engine).ending.status

    assert status() == 0
    monkeypatch.setattr(OpenFile, "is_for", lambda _, mode: mode >= 0)
    assert status() == 1
    os.close(both)
    assert (files / "text").stat().st_size == 14000


FOLDER = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#define CHECK(c) if (!(c)) { printf("line %d: %s\n", __LINE__, #c); return 1; }
int main(int argc, char **argv) {
    char small[24], one[32];
    struct stat s, t;
    int fd = open("/", O_RDONLY | O_DIRECTORY);
    CHECK(fd >= 0 && stat("/", &s) == 0 && S_ISDIR(s.st_mode));
    CHECK(fstat(fd, &t) == 0 && s.st_ino == t.st_ino);
    CHECK(syscall(SYS_getdents64, fd, small, 10) == -1 && errno == EINVAL);
    int names = 0;
    while (syscall(SYS_getdents64, fd, one, sizeof one) > 0) names++;
    CHECK(names == 3);
    CHECK(lseek(fd, 0, SEEK_SET) == 0 && syscall(SYS_getdents64, fd, one, sizeof one) > 0);
    CHECK(strcmp(one + 19, ".") == 0);
    CHECK(read(fd, small, 10) == -1 && errno == EISDIR);
    CHECK(open("/", O_RDWR) == -1 && errno == EISDIR);
    CHECK(open("/new", O_WRONLY | O_CREAT, 0600) == -1 && errno == EROFS);
    CHECK(access("/", W_OK) == -1 && errno == EROFS);
    CHECK(open(argv[0], O_RDWR) == -1 && errno == EROFS);
    CHECK(open(argv[0], O_RDONLY | O_TRUNC) == -1 && errno == EROFS);
    char below[4096];
    snprintf(below, sizeof below, "%s/", argv[0]);
    CHECK(open(below, O_RDONLY) == -1 && errno == ENOTDIR);
    CHECK(chdir("/missing") == -1 && errno == ENOENT);
    CHECK(chdir(argv[0]) == -1 && errno == ENOTDIR);
    CHECK(chdir("/..") == 0 && open("d/program", O_RDONLY) > 0);
    CHECK(openat(open("/d", O_PATH), "program", O_RDONLY) > 0);
    CHECK(readlink("/d", small, 10) == -1 && errno == EINVAL);
    puts("fine");
    return 0;
}
"""


def test_folders_that_exist_only_in_the_view_behave_as_directories(
    compile_c, tmp_path, engine, monkeypatch
):
    (tmp_path / "d").mkdir()
    os.rename(compile_c(FOLDER), tmp_path / "d/program")
    monkeypatch.chdir(tmp_path)
    assert run("d/program", engine=engine)[1] == b"fine\n"


# --- looking before opening --------------------------------------------------------------------

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


def test_it_would_be_woken_if_files_were_opened_to_look_at_them(files, waiting, opens_at_once):
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


def test_no_device_is_opened_and_the_stateless_ones_work(files, devices, needs_kvm):
    use_devices(files)
    assert not devices.any()


def test_devices_would_be_opened_if_files_were_opened_to_look_at_them(
    files, devices, opens_at_once, needs_kvm
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
def test_what_is_opened_is_what_was_looked_at(files, monkeypatch, way):
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


# --- file systems that show the kernel ---------------------------------------------------------

ASK_KERNEL = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
int main(int argc, char **argv) {
    struct stat s;
    char c[64];
    const char *paths[] = { argv[1], "/proc", "/proc/self", "/sys/kernel", "/proc/sys/kernel" };
    for (int i = 0; i < 5; i++) {
        if (stat(paths[i], &s) == 0) return 10 + i;
        if (lstat(paths[i], &s) == 0) return 20 + i;
        if (access(paths[i], F_OK) == 0) return 30 + i;
        if (chdir(paths[i]) == 0) return 40 + i;
        if (readlink(paths[i], c, sizeof c) > 0) return 50 + i;
        if (open(paths[i], O_RDONLY) >= 0 || open(paths[i], O_PATH) >= 0) return 60 + i;
    }
    return 0;
}
"""


def test_the_host_s_processes_and_its_kernel_do_not_show(compile_c, engine, monkeypatch):
    path, process_here = compile_c(ASK_KERNEL), f"/proc/{os.getpid()}"
    assert run(path, process_here, root="/", engine=engine)[0] == 0
    monkeypatch.setattr(views, "_KERNEL_FILES", frozenset())
    assert run(path, process_here, root="/", engine=engine)[0] == 10


def test_a_root_that_shows_the_kernel_is_refused():
    with pytest.raises(UsageError, match="root = /proc shows the kernel, not files"):
        run(BUSYBOX, root="/proc")


def test_file_systems_of_the_kernel_are_known_by_the_numbers_of_the_headers(compile_c):
    names = (
        "PROC_SUPER SYSFS DEBUGFS TRACEFS SECURITYFS CGROUP_SUPER CGROUP2_SUPER BPF_FS EFIVARFS"
        " PSTOREFS SELINUX SMACK AAFS BINFMTFS NSFS RDTGROUP_SUPER DEVPTS_SUPER XENFS_SUPER"
        " USBDEVICE_SUPER BINDERFS_SUPER"
    ).split()
    rows = "".join(f'printf("%lu\\n", (unsigned long){name}_MAGIC);\n' for name in names)
    path = compile_c(
        f"#include <stdio.h>\n#include <linux/magic.h>\nint main(void) {{ {rows} return 0; }}"
    )
    shown = subprocess.run([path], check=True, capture_output=True, text=True).stdout.split()
    assert {int(number) for number in shown} <= views._KERNEL_FILES


# --- volumes -----------------------------------------------------------------------------------


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


def test_a_volume_is_read_only_unless_it_is_asked_for(files, data):
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


# --- clocks ------------------------------------------------------------------------------------

CLOCKS = r"""
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int main(int argc, char **argv) {
    struct timespec t, no = { 0, 0 };
    for (long clock = -70; clock < 70; clock++) {
        if (syscall(SYS_clock_gettime, clock, &t) == 0) printf("%ld ", clock);
        else if (errno != EINVAL) return 1;
        if (syscall(SYS_clock_getres, clock, &t) == 0) printf("res ");
        if (syscall(SYS_clock_nanosleep, clock, 0, &no, 0) == 0) printf("sleep ");
    }
    for (int kind = 0; kind < 8; kind++) {            /* a process, a thread, a descriptor */
        long clock = ~atol(argv[1]) * 8 | kind;
        if (syscall(SYS_clock_gettime, clock, &t) == 0) printf("process ");
    }
    return 0;
}
"""


def test_only_the_clocks_of_the_list_are_read(compile_c, engine, monkeypatch):
    path, pid = compile_c(CLOCKS), str(os.getpid())
    status, output, _, _ = run(path, pid, engine=engine)
    expected = "0 res sleep 1 res sleep 2 res 3 res 4 res 5 res 6 res 7 res sleep"
    assert (status, output.decode().strip()) == (0, expected)

    def any_clock(_, clock):
        return time.clock_gettime_ns(clock - (1 << 64) if clock >> 63 else clock)

    monkeypatch.setattr(process.ProcessCalls, "_now", any_clock)
    assert b"process" in run(path, pid, engine=engine)[1]


UPTIMES = r"""
#include <stdio.h>
#include <time.h>
int main(void) {
    int clocks[] = { 1, 2, 3, 4, 6, 7 };
    for (int i = 0; i < 6; i++) {
        struct timespec t, u;
        if (clock_gettime(clocks[i], &t) || clock_gettime(clocks[i], &u)) return 1;
        if (u.tv_sec < t.tv_sec || (u.tv_sec == t.tv_sec && u.tv_nsec < t.tv_nsec)) return 2;
        printf("%ld\n", t.tv_sec * 1000000000 + t.tv_nsec);
    }
    return 0;
}
"""


def test_clocks_start_with_the_program(compile_c, engine, monkeypatch):
    def shown():
        """Each clock's nanoseconds, and how many have passed since before the program."""
        before = time.monotonic_ns()
        status, output, _, _ = run(path, engine=engine)
        assert status == 0
        return [int(row) for row in output.split()], time.monotonic_ns() - before

    path = compile_c(UPTIMES)
    values, passed = shown()
    assert max(values) <= passed
    monkeypatch.setattr(process, "_UPTIMES", ())
    monkeypatch.setattr(
        process.ProcessCalls, "_now",
        lambda _, clock: time.clock_gettime_ns(process._CLOCKS[clock]),
    )  # fmt: skip
    values, passed = shown()
    assert max(values) > passed
