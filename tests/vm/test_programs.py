"""Unmodified static Linux programs: busybox, and small C programs that check or misbehave."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import time

import pytest

from pycontain.errors import GuestError
from pycontain.vm.program import World, run_program
from tests.vm.programs import BUSYBOX, ENVIRONMENT, compile_c, files, run

__all__ = ["compile_c", "files"]  # fixtures


# --- busybox -----------------------------------------------------------------------------------

APPLETS = [
    ("echo", "a", "b"),
    ("cat", "/text", "/numbers"),
    ("ls", "/"),
    ("ls", "-la", "/dir"),
    ("sha256sum", "/big", "/text"),
    ("awk", "{ sum += $1 } END { print sum, sqrt(sum) }", "/numbers"),
    ("wc", "/text", "/big"),
    ("wc", "-l", "/dir/link"),
    ("head", "-n", "3", "/numbers"),
    ("sort", "-rn", "/numbers"),
    ("grep", "-c", "7", "/numbers"),
    ("od", "-c", "/text"),
    ("find", "/dir"),
    ("stat", "-c", "%s %a %F", "/big"),
    ("expr", "6", "*", "7"),
    ("seq", "1", "5"),
    ("date", "-d", "@86400"),
    ("false",),
    ("cat", "/missing"),
    ("ls", "/missing"),
    ("test", "-d", "/dir"),
    ("test", "-x", "/text"),
]


@pytest.mark.parametrize("applet", APPLETS, ids=lambda applet: "-".join(applet[:2]))
def test_busybox_behaves_as_under_the_host_s_kernel(files, applet, engine):
    native = subprocess.run(
        ["/bin/busybox", *applet], check=False, capture_output=True, cwd="/",
        env=dict(pair.split("=") for pair in ENVIRONMENT),
        preexec_fn=lambda: (os.chroot(files), os.chdir("/")),
    )  # fmt: skip
    status, output, errors, _ = run("/bin/busybox", *applet, engine=engine, root=str(files))
    assert (status, output, errors) == (native.returncode, native.stdout, native.stderr)


def test_gzip_output_can_be_decompressed(files, engine):
    _, output, _, _ = run("/bin/busybox", "gzip", "-c", "/big", engine=engine, root=str(files))
    assert gzip.decompress(output) == (files / "big").read_bytes()


def test_uname_shows_another_kernel(files, engine):
    _, output, _, _ = run("/bin/busybox", "uname", "-sr", engine=engine, root=str(files))
    assert output == b"Linux 5.14.0-pycontain\n"
    assert os.uname().release not in output.decode()


def test_input_comes_from_the_descriptor_that_is_given(files, engine):
    reader, writer = os.pipe()
    os.write(writer, b"c\nb\na\n")
    os.close(writer)
    _, output, _, _ = run("/bin/busybox", "sort", engine=engine, root=str(files), stdin=reader)
    os.close(reader)
    assert output == b"a\nb\nc\n"


def test_calls_that_are_not_served_are_counted(files):
    _, _, _, result = run("/bin/busybox", "swapoff", "/text", root=str(files))
    assert result.unserved == {"swapoff": 1}
    assert result.stats.count["swapoff"] == 1


def test_a_trace_shows_the_calls(files):
    lines = []
    run("/bin/busybox", "cat", "/text", "/missing", root=str(files), trace=lines.append)
    assert any(line.startswith("1 sendfile(1, 3, 0, ") and "= 14000 <" in line for line in lines)
    assert any(line.startswith('1 openat(AT_FDCWD, "/text", 0, 0o0) = 3 <') for line in lines)
    assert any('"/missing"' in line and " = -1 ENOENT <" in line for line in lines)
    shown = "write(2, \"cat: can't open '/missing': No s\"..., 54) = 54"
    assert any(shown in line for line in lines)


# --- the root ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/dir/out", "/../../../../etc/passwd", "dir/../../etc/passwd"])
def test_nothing_outside_of_the_root_is_reached(files, path):
    assert os.path.exists(files / "dir/out")  # the host would follow it
    status, output, _, _ = run("/bin/busybox", "cat", path, root=str(files))
    assert (status, output) == (1, b"")


def test_the_root_is_read_only(files):
    for applet in (
        ("touch", "/new"),
        ("rm", "/text"),
        ("mkdir", "/d"),
        ("truncate", "-s0", "/text"),
    ):
        status, _, _, _ = run("/bin/busybox", *applet, root=str(files))
        assert status != 0
    assert (files / "text").stat().st_size == 14000
    assert not (files / "new").exists()


def test_a_fifo_and_a_socket_do_not_open(files):
    os.mkfifo(files / "fifo")
    status, _, errors, _ = run("/bin/busybox", "cat", "/fifo", root=str(files), timeout=20)
    assert status == 1
    assert b"Permission denied" in errors


def test_proc_shows_the_program_and_not_the_monitor():
    status, output, _, _ = run(BUSYBOX, "cat", "/proc/self/maps", "/proc/self/cmdline", root="/")
    assert status == 0
    assert output.count(b"[stack]") == 1
    assert output.endswith(BUSYBOX.encode() + b"\0cat\0/proc/self/maps\0/proc/self/cmdline\0")
    assert b"python" not in output
    host = f"/proc/{os.getpid()}/status"
    assert os.path.exists(host)
    assert run(BUSYBOX, "cat", host, root="/")[0] == 1


def test_harmless_devices_open():
    status, output, _, _ = run(BUSYBOX, "head", "-c", "10", "/dev/zero", root="/")
    assert (status, output) == (0, bytes(10))


# --- C programs --------------------------------------------------------------------------------

HELLO = r"""
#include <stdio.h>
int main(int argc, char **argv) { printf("%d %s\n", argc, argv[argc - 1]); return 7; }
"""


@pytest.mark.parametrize("flags", [["-static"], ["-static-pie"], ["-static", "-O3", "-mavx2"]])
def test_static_programs_of_each_kind_run(compile_c, engine, flags):
    status, output, _, _ = run(compile_c(HELLO, *flags), "last", engine=engine)
    assert (status, output) == (7, b"2 last\n")


def test_a_program_for_another_processor_runs_emulated(compile_c):
    pytest.importorskip("unicorn")
    path = compile_c(HELLO, compiler="aarch64-linux-gnu-gcc")
    status, output, _, _ = run(path, "last", engine="emulate")
    assert (status, output) == (7, b"2 last\n")
    with pytest.raises(GuestError, match=r"is for aarch64.*use --engine emulate"):
        run(path)


CRASHES = {
    "null write": ("*(volatile int *)0 = 1;", 11, "wrote to 0x0, where nothing is mapped"),
    "null read": ("return *(volatile int *)8;", 11, "read 0x8, where nothing is mapped"),
    "write to code": ("*(volatile int *)main = 1;", 11, "wrote to 0x.*whose permissions forbid it"),
    "jump to nothing": ("((void (*)(void))0x123000)();", 11, "ran code at 0x123000"),
    "run data": ("char c[99]; ((void (*)(void))c)();", 11, "ran code at 0x7ff"),
    "illegal": ('asm("ud2");', 4, "ran an illegal instruction"),
    "abort": ("abort();", 6, ""),
    "deep recursion": ("return f(1) + f(2);", 11, "wrote to 0x7ff"),
}


@pytest.mark.parametrize("name", CRASHES)
def test_a_crash_is_described_and_gives_the_status_of_its_signal(compile_c, engine, name):
    body, signal, words = CRASHES[name]
    path = compile_c(
        "#include <stdlib.h>\n"
        "int f(int n) { volatile char b[4096]; b[0] = n; return f(n + b[0]) + b[n % 7]; }\n"
        f"int main(void) {{ {body} return 0; }}", "-static", "-O0",
    )  # fmt: skip
    status, _, _, result = run(path, engine=engine)
    assert (status, result.ending.signal) == (128 + signal, signal)
    import re

    assert re.search(words, result.ending.fault)


PRIVILEGED = {
    "hlt": "hlt", "cli": "cli", "cr3": "mov %%cr3, %%rax", "out": "out %%al, $0xf4",
    "fault port": "out %%al, $0x81", "wrmsr": "wrmsr", "lidt": "lidt (%%rsp)",
    "int 0x80": "int $0x80", "int 14": "int $14",
}  # fmt: skip


@pytest.mark.parametrize("name", PRIVILEGED)
def test_privileged_instructions_fault_in_ring_3(compile_c, needs_kvm, name):
    path = compile_c(
        f'int main(void) {{ asm volatile("{PRIVILEGED[name]}" ::: "rax"); return 0; }}'
    )
    status, _, _, result = run(path)
    if name.startswith("int") and status == 132:  # software PVM does not implement it
        assert "illegal instruction" in result.ending.fault
        return
    assert status == 139
    assert "caused a general protection fault" in result.ending.fault


@pytest.mark.parametrize(
    ("statement", "signal"), [("volatile int z = 0, n = 5; return n / z;", 8), ('asm("int3");', 5)]
)
def test_arithmetic_and_breakpoints_raise_their_signals(compile_c, needs_kvm, statement, signal):
    status, _, _, _ = run(compile_c(f"int main(void) {{ {statement} return 0; }}"))
    assert status == 128 + signal


def test_the_monitor_s_pages_are_out_of_reach(compile_c, needs_kvm):
    for address in (0x1000, 0x2000, 0x3000, 0x6000):
        text = f"int main(void) {{ return *(volatile int *){address}; }}"
        assert run(compile_c(text))[0] == 139
    assert run(compile_c("int main(void) { *(volatile int *)0x4000 = 0; return 0; }"))[0] == 139


MEMORY = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <errno.h>
#include <fcntl.h>
#define CHECK(c) if (!(c)) { printf("line %d: %s\n", __LINE__, #c); return 1; }
int main(int argc, char **argv) {
    char *p = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED && p[0] == 0 && p[(1 << 20) - 1] == 0);
    memset(p, 7, 1 << 20);
    CHECK(mprotect(p + 4096, 4096, PROT_READ) == 0 && p[4096] == 7);
    CHECK(mprotect(p + 4096, 4096, PROT_READ | PROT_WRITE) == 0);
    p[4096] = 8;
    CHECK(p[4095] == 7 && p[4096] == 8 && p[8192] == 7);
    CHECK(munmap(p + 8192, 4096) == 0);
    CHECK(mmap(p + 8192, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
               -1, 0) == p + 8192 && p[8192] == 0 && p[12288] == 7);
    CHECK(mmap(0, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
          && errno == EACCES);
    CHECK(mmap(0, 1L << 45, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
          && errno == ENOMEM);
    unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 };          /* mov $42, %eax; ret */
    memcpy(p, code, sizeof code);
    CHECK(mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0 && ((int (*)(void))p)() == 42);
    CHECK(mprotect(p, 4096, PROT_READ | PROT_WRITE) == 0);
    p[1] = 43;
    CHECK(mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0 && ((int (*)(void))p)() == 43);
    int fd = open(argv[0], O_RDONLY);
    char *f = mmap(0, 8192, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(f != MAP_FAILED && memcmp(f, "\177ELF", 4) == 0);
    for (int i = 0; i < 60; i++) {
        char *b = malloc(i * 5000);
        memset(b, i, i * 5000);
        if (i % 3) free(b);
    }
    puts("fine");
    return 0;
}
"""


def test_memory_calls_do_what_linux_does(compile_c, engine):
    assert run(compile_c(MEMORY), engine=engine)[1] == b"fine\n"


@pytest.mark.parametrize("access", ["p[0] = 1", "p[0]", "((void (*)(void))p)()"])
@pytest.mark.parametrize("how", ["munmap(p, 4096)", "mprotect(p, 4096, PROT_NONE)"])
def test_a_page_made_inaccessible_is_so_at_once(compile_c, engine, how, access):
    # the processor has a cached translation of the page, which must be dropped
    path = compile_c(f"""
        #include <sys/mman.h>
        int main(void) {{
            volatile char *p = mmap(0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            p[0] = 1;
            int read = p[0];
            {how};
            {access};
            return 0;
        }}""")
    assert run(path, engine=engine)[0] == 139


def test_a_page_made_read_only_is_read_only_at_once(compile_c, engine):
    path = compile_c("""
        #include <sys/mman.h>
        int main(void) {
            volatile char *p = mmap(0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            p[0] = 1;
            mprotect(p, 4096, PROT_READ);
            if (p[0] != 1) return 1;
            p[0] = 2;
            return 0;
        }""")
    assert run(path, engine=engine)[0] == 139


BAD_POINTERS = r"""
#include <unistd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <fcntl.h>
#include <stdio.h>
#include <errno.h>
long bad[] = { 0, 8, 0x1000, 0x5000, 0x7fffffffffff, 0x7ffffffff000, -1, -4096, 1L << 47 };
int main(int argc, char **argv) {
    for (int i = 0; i < 9; i++) {
        int fd = open(argv[0], O_RDONLY);
        for (int turn = 0; turn < 4; turn++)     /* the third and later come from the window */
            if (read(fd, (void *)bad[i], 100) != -1 || errno != EFAULT) return 100 + i;
        char c[16];
        for (int turn = 0; turn < 4; turn++)
            if (read(fd, c, 16) != 16 || (turn == 0) != (c[0] == 127)) return 120 + i;
        if (read(fd, (void *)bad[i], 100) != -1 || errno != EFAULT) return 140 + i;
        if (lseek(fd, 0, SEEK_CUR) != 64) return 160 + i;
        if (write(1, (void *)bad[i], 10) != -1 || errno != EFAULT) return 20 + i;
        if (open((void *)bad[i], 0) != -1 || errno != EFAULT) return 40 + i;
        if (syscall(SYS_uname, bad[i]) != -1 || errno != EFAULT) return 60 + i;
        struct iovec v = { (void *)bad[i], 10 };
        if (writev(1, &v, 1) != -1 || errno != EFAULT) return 80 + i;
        close(fd);
    }
    return 0;
}
"""


def test_bad_pointers_are_efault_and_change_nothing(compile_c, engine):
    assert run(compile_c(BAD_POINTERS), engine=engine)[0] == 0


SMALL_READS = r"""
#include <unistd.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv) {
    unsigned char a[1000], b[1000];
    int one = open(argv[1], O_RDONLY), two = open(argv[1], O_RDONLY), also = dup(one);
    long at = 0, got;
    unsigned step = 1;
    for (;;) {
        step = step * 1103515245 + 12345;
        int fd = (step >> 20 & 7) == 0 ? also : one;
        if ((step >> 16 & 15) == 0) {
            if (lseek(one, 0, SEEK_CUR) != at) return 2;
            if ((step >> 8 & 3) == 0) at = lseek(one, -(at < 50 ? at : 50), SEEK_CUR);
        }
        unsigned want = step >> 8 & 511;
        got = read(fd, a, want);
        if (got < 0 || got > want) return 3;
        if (pread(two, b, got, at) != got || memcmp(a, b, got)) return 4;
        for (int i = 0; i < 3 && got; i++) {           /* with no other call between */
            long more = read(one, a, 100);
            got += more;
            if (more < 100) break;
        }
        at += got;
        if (!got && want) break;
    }
    printf("%ld\n", at);
    return 0;
}
"""


def test_small_reads_are_correct_whatever_calls_come_between(compile_c, engine, files):
    path = compile_c(SMALL_READS)
    status, output, _, _ = run(path, str(files / "big"), root="/", engine=engine)
    assert (status, output) == (0, b"%d\n" % (256 * 12345))


def test_reading_in_small_pieces_needs_few_exits(files, needs_kvm):
    _, output, _, result = run("/bin/busybox", "sha256sum", "/big", root=str(files))
    assert output.split()[0].decode() == hashlib.sha256((files / "big").read_bytes()).hexdigest()
    assert result.stats.count["read"] < 20  # of 772 that the program makes


def test_a_program_that_forges_the_window_hurts_only_itself(compile_c, needs_kvm, files):
    path = compile_c(r"""
        #include <unistd.h>
        #include <fcntl.h>
        #include <stdio.h>
        #include <string.h>
        int main(int argc, char **argv) {
            volatile long *word = (void *)0x5000;
            static char b[4096];
            int fd = open(argv[1], O_RDONLY);
            read(fd, b, 100); read(fd, b, 100); read(fd, b, 100);
            word[2] = -1;                                  /* far more than is left */
            if (lseek(fd, 0, SEEK_CUR) != 200) return 1;   /* clamped: as if unread */
            read(fd, b, 100); read(fd, b, 100);
            word[2] = 0;
            lseek(fd, 0, SEEK_CUR);
            read(fd, b, 100); read(fd, b, 100);
            word[1] = 0x1000;                              /* a page of the monitor */
            word[2] = 4096;
            memset(b, 0, sizeof b);
            read(fd, b, 4096);
            if (((long *)b)[1] == 0x00af9b000000ffff) puts("leaked");
            return 0;
        }""")  # fmt: skip
    status, output, _, _ = run(path, str(files / "big"), root="/")
    assert status in {0, 139}
    assert output == b""


SIGNALS = r"""
#include <signal.h>
#include <errno.h>
#include <unistd.h>
int main(void) {
    struct sigaction was;
    raise(SIGCHLD);
    if (raise(SIGWINCH) || kill(getpid(), 0) || kill(77, 0) == 0) return 1;
    if (signal(SIGPIPE, SIG_IGN) != SIG_DFL || signal(SIGTERM, SIG_IGN) != SIG_DFL) return 2;
    if (sigaction(SIGPIPE, 0, &was) || was.sa_handler != SIG_IGN) return 3;
    if (signal(SIGKILL, SIG_IGN) != SIG_ERR) return 4;
    raise(SIGTERM);
    if (write(1, "x", 1) != -1 || errno != EPIPE) return 5;
    signal(SIGTERM, SIG_DFL);
    raise(SIGTERM);
    return 6;
}
"""


def test_ignored_signals_are_ignored_and_others_end_the_program(compile_c, engine):
    reader, writer = os.pipe()
    os.close(reader)
    result = run_program([compile_c(SIGNALS)], world=World(stdout=writer), engine=engine)
    os.close(writer)
    assert result.ending.status == 128 + 15


TIME = r"""
#include <time.h>
#include <sys/time.h>
#include <stdio.h>
int main(void) {
    struct timespec a, b, pause = { 0, 20000000 };
    struct timeval v;
    clock_gettime(CLOCK_MONOTONIC, &a);
    nanosleep(&pause, 0);
    clock_gettime(CLOCK_MONOTONIC, &b);
    long passed = (b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec;
    gettimeofday(&v, 0);
    printf("%d %ld\n", passed >= 20000000, (long)v.tv_sec);
    return clock_gettime(99, &a) == 0;
}
"""


def test_the_clocks_of_a_program_in_a_vm_advance(compile_c, engine):
    before = int(time.time())
    status, output, _, _ = run(compile_c(TIME), engine=engine)
    slept, now = output.split()
    assert (status, slept) == (0, b"1")
    assert before <= int(now) <= time.time()
