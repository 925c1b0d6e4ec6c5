"""Limits on what programs can use, and many programs at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

from pycontain.errors import GuestError, HostError, ProgramError, Timeout, UsageError
from pycontain.vm.linux.numbers import BY_MACHINE
from pycontain.vm.program import MIB, World, run_program
from pycontain.vm.sink import Capture
from tests.vm.programs import BUSYBOX, compile_c, files, run

__all__ = ["compile_c", "files"]  # fixtures


FUZZ = r"""
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
static unsigned long state;
static unsigned long next(void) {
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    return state;
}
int main(int argc, char **argv) {
    static char page[8192];
    state = 88172645463325252UL + atol(argv[1]) * 7919;
    unsigned long here = (unsigned long)page, odd[] = {
        0, 1, 2, 3, 4, 5, 16, 100, 4096, 0x10000, -1, -100, 1UL << 31, 1UL << 32, 1UL << 47,
        1UL << 63, here, here + 1, (unsigned long)argv[0] };
    int calls = sizeof odd / sizeof *odd;
    for (long i = 0; i < 3000; i++) {
        unsigned long number = next() % 470, a[6];
        /* not: exit, exit_group, kills, sleeps, and a read that waits */
        if (number == 60 || number == 231 || number == 62 || number == 200 || number == 234
            || number == 35 || number == 230 || number == 11 || number == 10 || number == 9)
            continue;
        /* nor: calls that wait, go elsewhere, or make a process */
        switch (number) {
        case 7: case 15: case 22: case 23: case 34: case 37: case 38: case 41: case 53: case 56: case 57: case 58: case 59: case 61: case 127:
        case 128: case 130: case 232: case 223: case 247: case 270: case 271: case 281: case 283: case 284: case 290: case 293:
        case 322: case 435: case 441: continue;
        }
        for (int k = 0; k < 6; k++) a[k] = next() % 8 ? odd[next() % calls] : next();
        for (int k = 0; k < 64; k++) page[next() % 8192] = next() % 3 ? 0 : next();
        syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
    for (long i = 0; i < 2000; i++) {                  /* then change our own mappings */
        unsigned long a[4];
        for (int k = 0; k < 4; k++) a[k] = next() % 4 ? odd[next() % calls] : next() & ~4095UL;
        syscall(9 + next() % 4, a[0], a[1], a[2], 34, a[3], 0);
    }
    return 0;
}
"""


@pytest.mark.parametrize("seed", range(6))
def test_no_system_call_whatever_its_arguments_breaks_the_monitor(compile_c, engine, files, seed):
    path = compile_c(FUZZ)
    empty = os.open("/dev/null", os.O_RDONLY)
    status, _, _, result = run(
        path, str(seed), engine=engine, root="/", cwd=str(files), stdin=empty, memory=64 * MIB
    )
    os.close(empty)
    assert status in {0, 139, 132, 133}
    assert result.stats.total() > 1000


# --- limits ------------------------------------------------------------------------------------

ENDLESS = {
    "spin": "for (;;);",
    "calls": "for (;;) syscall(39);",
    "map": "for (;;) mmap(0, 1 << 20, 3, 34, -1, 0);",
    "reserve": "for (long i = 1;; i += 2) mmap((void *)(i << 20), 4096, 0, 34, -1, 0);",
    "sleep": "for (;;) usleep(1000000000);",
    "read": "char c; read(0, &c, 1);",
    "open": 'for (;;) syscall(257, -100, "/", 0, 0);',
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_program_without_end_is_stopped_at_its_deadline(compile_c, engine, name):
    path = compile_c(
        "#include <unistd.h>\n#include <sys/mman.h>\n#include <sys/syscall.h>\n"
        f"int main(void) {{ {ENDLESS[name]} return 0; }}"
    )
    reader, writer = os.pipe()
    before = descriptors()
    began = time.monotonic()
    with pytest.raises(Timeout, match=r"the program did not end within 0.5 s"):
        run(path, engine=engine, timeout=0.5, stdin=reader)
    assert time.monotonic() - began < 10
    assert descriptors() == before
    os.close(reader)
    os.close(writer)


def test_a_full_pipe_does_not_block_the_monitor(files):
    reader, writer = os.pipe()
    with pytest.raises(Timeout):
        run_program(
            ["/bin/busybox", "yes"], world=World(root=str(files), stdout=writer), timeout=0.5
        )
    os.close(reader)
    os.close(writer)


def test_writing_to_a_pipe_without_a_reader_raises_sigpipe(files):
    reader, writer = os.pipe()
    os.close(reader)
    world = World(root=str(files), stdout=writer)
    result = run_program(["/bin/busybox", "yes"], world=world, timeout=20)
    os.close(writer)
    assert result.ending.status == 141


def test_output_beyond_the_limit_ends_the_run(files):
    world = World(root=str(files), stdout=Capture(limit=100_000))
    with pytest.raises(GuestError, match="wrote more than the limit of 100000 bytes"):
        run_program(["/bin/busybox", "yes"], world=world, timeout=20)


def test_the_memory_of_a_program_is_limited(compile_c, engine):
    path = compile_c(r"""
        #include <stdlib.h>
        #include <string.h>
        #include <stdio.h>
        int main(void) {
            int n = 0;
            for (char *p; (p = malloc(1 << 20)); n++) memset(p, 1, 1 << 20);
            return n > 8 && n < 32 ? 0 : 1;
        }""")
    assert run(path, engine=engine, memory=32 * MIB)[0] == 0


def test_a_program_that_needs_more_memory_than_it_has_is_refused(compile_c, needs_kvm):
    path = compile_c("char c[100 << 20]; int main(void) { return c[5]; }")
    with pytest.raises(
        GuestError, match="memory = 64 MiB is too small for the program; raise --mem"
    ):
        run(path, memory=64 * MIB)


@pytest.mark.parametrize(
    ("arguments", "world", "error", "words"),
    [
        (["/missing"], {}, ProgramError, "/missing no such file or directory"),
        (["/etc"], {}, ProgramError, "/etc is not a regular file"),
        (["/etc/passwd"], {}, GuestError, "/etc/passwd is not an ELF program"),
        (["/bin/ls"], {}, GuestError, "/bin/ls is dynamically linked"),
        (["x"], {"root": "/missing"}, UsageError, "root = /missing is not a directory"),
        ([BUSYBOX], {"memory": 0}, UsageError, "is not a positive number"),
        ([BUSYBOX], {"memory": 1 << 50}, HostError, "is more than the"),
        ([BUSYBOX], {"memory": 1 << 17}, GuestError, "is too small for the program"),
        ([BUSYBOX, "x" * (1 << 18)], {}, UsageError, "longer than 128 KiB"),
    ],
)
def test_a_program_that_cannot_run_is_refused_in_one_line(
    needs_kvm, arguments, world, error, words
):
    before = descriptors()
    with pytest.raises(error, match=words) as caught:
        run_program(arguments, world=World(**world))
    assert "\n" not in str(caught.value)
    assert descriptors() == before


# --- as a library ------------------------------------------------------------------------------


def descriptors():
    return sorted(os.listdir("/proc/self/fd"))


def test_programs_run_in_many_threads_at_once(files):
    outputs = []

    def body(number):
        outputs.append(run("/bin/busybox", "echo", str(number), root=str(files))[1])

    before = descriptors()
    threads = [threading.Thread(target=body, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outputs) == sorted(b"%d\n" % number for number in range(20))
    assert descriptors() == before


def test_programs_run_in_many_processes_at_once(files):
    code = (
        "import sys; from pycontain.vm.program import run_program, World\n"
        f"world = World(root={str(files)!r})\n"
        "sys.exit(run_program(['/bin/busybox', 'sh', '-c', 'exit ' + sys.argv[1]], (), world)"
        ".ending.status)"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, str(number)]) for number in range(20)]
    assert [child.wait(timeout=60) for child in children] == list(range(20))


def test_one_hundred_programs_leave_nothing(files):
    run("/bin/busybox", "true", root=str(files))
    before = descriptors()
    with open("/proc/self/maps") as file:
        mappings = len(file.readlines())
    for _ in range(100):
        run("/bin/busybox", "true", root=str(files))
    assert descriptors() == before
    with open("/proc/self/maps") as file:
        assert abs(len(file.readlines()) - mappings) < 10


def test_the_call_numbers_are_those_of_the_headers():
    for machine, compiler in (("x86_64", "gcc"), ("aarch64", "aarch64-linux-gnu-gcc")):
        if not shutil.which(compiler):
            continue
        names = BY_MACHINE[machine]
        lines = "\n".join(f"X {number} __NR_{name}" for number, name in names.items())
        text = f"#include <asm/unistd.h>\n{lines}\n"
        command = [compiler, "-E", "-P", "-x", "c", "-"]
        made = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
        rows = [line.split() for line in made.stdout.splitlines() if line.startswith("X ")]
        assert [row for row in rows if row[1] != row[2]] == []
        assert len(rows) == len(names)
