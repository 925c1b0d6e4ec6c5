"""What a program in the VM is shown of its host."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from pycontain.errors import ProgramError, UsageError
from pycontain.vm import Volume, World, monitor
from pycontain.vm import view as views
from pycontain.vm.linux import clock as clocks
from pycontain.vm.linux.table import TABLE, Call
from pycontain.vm.open_file import OpenFile
from pycontain.vm.program import run_program
from tests.vm.programs import BUSYBOX, busybox, compile_c, files, run

__all__ = ["compile_c", "files"]  # fixtures


# --- the program alone -------------------------------------------------------------------------


def test_without_a_root_a_program_sees_itself_alone(engine):
    status, output, _ = busybox("find", "/", engine=engine)
    assert (status, output.decode().split()) == (0, ["/", "/bin", "/bin/busybox"])


def test_the_host_s_files_are_not_visible_unless_requested(files, engine):
    secret = str(files / "text")
    status, output, errors = busybox("cat", secret, engine=engine)
    assert (status, output) == (1, b"")
    assert b"No such file" in errors
    for given in ({"root": "/"}, {"volumes": (Volume(host=secret, guest=secret),)}):
        assert busybox("cat", secret, engine=engine, **given)[1] == (files / "text").read_bytes()


def test_the_library_shows_no_files_of_the_host_by_default_either():
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


def test_the_owners_of_given_files_are_not_shown(compile_c, tmp_path, needs_kvm):
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
    shows = Call(**{**TABLE["getuid"].fields(), "function": lambda _: os.getuid()})
    monkeypatch.setitem(TABLE, "getuid", shows)
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


def test_a_stream_open_for_reading_and_writing_serves_one_direction(
    compile_c, files, engine, monkeypatch
):
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
    const char *paths[] = { argv[1], "/sys/kernel", "/sys/devices", "/../sys/kernel" };
    for (int i = 0; i < 4; i++) {
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
    assert run(path, process_here, root="/", engine=engine)[0] == 11


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
        return time.clock_gettime_ns(clock)

    monkeypatch.setattr(clocks.Clocks, "now", any_clock)
    monkeypatch.setattr(monitor, "_fork", lambda: (os.fork(), False))  # where it finds that process
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
    monkeypatch.setattr(clocks, "_UPTIMES", ())
    monkeypatch.setattr(
        clocks.Clocks, "now",
        lambda _, clock: time.clock_gettime_ns(clocks._CLOCKS[clock]),
    )  # fmt: skip
    values, passed = shown()
    assert max(values) > passed
