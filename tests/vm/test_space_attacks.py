"""Programs that attack the monitor through their address space, and variants that they beat."""

from __future__ import annotations

import ctypes
import errno
import os
import signal

import pytest

from pycontain.errors import GuestError
from pycontain.vm import program as programs
from pycontain.vm import space as spaces
from pycontain.vm import window as windows
from pycontain.vm.frames import Frames, OutOfFrames, pages
from pycontain.vm.linux import task
from pycontain.vm.memory import PAGE, Memory
from pycontain.vm.paging import READ, WRITE, PageTables
from pycontain.vm.program import MIB
from pycontain.vm.space import HIGHEST, LOWEST, Area, BadAddress, MapError, Space
from tests.vm.programs import compile_c, files, run

__all__ = ["compile_c", "files"]  # fixtures

libc = ctypes.CDLL(None, use_errno=True)
RW = READ | WRITE
FAR = 3 << 39  # where every level of tables is missing


class Naive(Space):
    """The old order: permissions first; -1 stood for no frames, and frames given back stayed."""

    def protect(self, address, length, prot):
        for area in self._inside(address, address + pages(length)):
            after = Area(area.start, area.end, prot, area.frame)
            if area.frame is None:
                after.frame = -1
            self._replace(area.start, area.end, [after])
            size = area.end - area.start
            try:
                if area.frame is None:
                    after.frame = self._frames.take(size)
                    self._tables.reserve(area.start, size)
            except OutOfFrames:
                if after.frame != -1:
                    self._frames.give(after.frame, size)
                raise MapError(errno.ENOMEM) from None
            self._change(area, after)


# --- a change of permissions that fails --------------------------------------------------------

DUMP = r"""
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
int main(void) {
    char *bare = mmap(0, 1L << 40, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mprotect(bare, 1L << 40, PROT_READ | PROT_WRITE) == 0 || errno != ENOMEM) return 1;
    if (write(1, bare + 1, 0x8000) >= 0) return 66;      /* what is at physical address 0 */
    return errno == EFAULT ? 0 : 2;
}
"""
KERNEL_CODE = bytes.fromhex("ffff0000009baf00")  # the descriptor of ring 0's code, in the GDT


def test_a_failed_mprotect_gives_no_view_of_physical_memory(compile_c, engine):
    assert run(compile_c(DUMP), engine=engine, memory=32 * MIB)[:2] == (0, b"")


def test_with_the_permissions_first_the_same_program_reads_descriptor_tables(
    compile_c, needs_kvm, monkeypatch
):
    monkeypatch.setattr(programs, "Space", Naive)
    status, output, _, _ = run(compile_c(DUMP), memory=32 * MIB)
    assert status == 66
    assert KERNEL_CODE in output


# The monitor writes the old action of a signal, 32 bytes of the program's choice, where the program
# says: into the gate of INT3, whose handler then runs in ring 0.
ESCALATE = r"""
#define _GNU_SOURCE
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
volatile unsigned short ring = 3;
void handler(void);
asm("handler: push %rax; mov %cs, %ax; mov %ax, ring; pop %rax; iretq");
int main(void) {
    char *bare = mmap(0, 1L << 40, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(bare, 1L << 40, PROT_READ | PROT_WRITE);
    uint64_t to = (uint64_t)handler, gate[4];
    gate[0] = (to & 0xffff) | 0x08 << 16 | 1UL << 32 | 0xeeUL << 40 | (to >> 16 & 0xffff) << 48;
    gate[1] = to >> 32;
    gate[2] = gate[3] = 0;
    syscall(SYS_rt_sigaction, 10, gate, 0, 8);
    if (syscall(SYS_rt_sigaction, 10, 0, bare + 1 + 0x2030, 8)) return 0;
    asm volatile("int3" ::: "memory");
    return (ring & 3) == 0 ? 66 : 1;
}
"""


def test_no_program_writes_itself_a_way_into_ring_0(compile_c, needs_kvm, monkeypatch):
    path = compile_c(ESCALATE, "-static", "-no-pie")
    assert run(path, memory=32 * MIB)[0] == 0
    monkeypatch.setattr(programs, "Space", Naive)
    assert run(path, memory=32 * MIB)[0] == 66


@pytest.fixture
def memory():
    memory = Memory(MIB)
    yield memory
    memory.close()


def fill_up(space, frames, leave):
    """Map until only this many pages are free."""
    while frames.free > leave * PAGE:
        space.map(0, PAGE, RW)


def after_a_failure(memory, kind):
    """A space whose mprotect found frames for two pages, but none for their tables."""
    frames = Frames(LOWEST, memory.size)
    space = kind(memory, frames, PageTables(memory, frames))
    space.map(FAR, 2 * PAGE, 0, fixed=True)
    space.map(0, PAGE, RW)
    fill_up(space, frames, 4)
    with pytest.raises(MapError):
        space.protect(FAR, 2 * PAGE, RW)
    assert frames.free == 4 * PAGE
    return space


def test_frames_that_a_failed_call_gave_back_are_forgotten(memory):
    space = after_a_failure(memory, Space)
    with pytest.raises(BadAddress):
        space.read(FAR, 8)


def test_frames_that_a_naive_space_keeps_become_another_area_s(memory):
    """The control: the program reads, through the first area, what the second one contains."""
    space = after_a_failure(memory, Naive)
    second = space.map(0, PAGE, RW)
    space.write(second, b"secret")
    assert b"secret" in space.read(FAR, 2 * PAGE)


# --- a mapping that fails ----------------------------------------------------------------------

REPLACE = r"""
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#define CHECK(c) if (!(c)) return __LINE__
#define FLAGS (MAP_PRIVATE | MAP_ANONYMOUS)
int main(void) {
    char *p = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, FLAGS, -1, 0);
    memset(p, 7, 1 << 20);
    int folder = open("/", O_RDONLY);
    CHECK(mmap(p, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, folder, 0) == MAP_FAILED);
    CHECK(p[0] == 7);
    CHECK(mmap(p, 1 << 30, PROT_READ, FLAGS | MAP_FIXED, -1, 0) == MAP_FAILED && errno == ENOMEM);
    CHECK(p[0] == 7 && p[(1 << 20) - 1] == 7);
    p[0] = 8;                                                   /* still writable, too */
    char *big = mmap(0, 12 << 20, PROT_READ | PROT_WRITE, FLAGS, -1, 0);
    CHECK(big != MAP_FAILED);
    memset(big, 9, 12 << 20);              /* more than half of memory, yet replaced in place */
    CHECK(mmap(big, 12 << 20, PROT_READ, FLAGS | MAP_FIXED, -1, 0) == big);
    CHECK(big[0] == 0 && big[(12 << 20) - 1] == 0);
    return 0;
}
"""


class UnmapsFirst(Space):
    """The old order: what is replaced is gone, even if nothing can replace it."""

    def map(self, address, length, prot, *, fixed=False, fill=None):
        if fixed:
            self.unmap(address, length)
        return super().map(address, length, prot, fixed=fixed, fill=fill)


def test_a_mapping_that_fails_leaves_what_it_would_have_replaced(
    compile_c, engine, files, monkeypatch
):
    path = compile_c(REPLACE)
    given = {"engine": engine, "root": "/", "memory": 28 * MIB}
    assert run(path, **given)[0] == 0
    monkeypatch.setattr(programs, "Space", UnmapsFirst)
    assert run(path, **given)[0] == 139


# --- what was unmapped -------------------------------------------------------------------------

STALE = r"""
#include <string.h>
#include <sys/mman.h>
#define FLAGS (MAP_PRIVATE | MAP_ANONYMOUS)
int main(void) {
    char *old = mmap((void *)0x100000000, 4096, PROT_READ | PROT_WRITE, FLAGS, -1, 0);
    old[0] = 1;
    munmap(old, 4096);
    char *new = mmap((void *)0x200000000, 4096, PROT_READ | PROT_WRITE, FLAGS, -1, 0);
    if (new[0]) return 1;
    strcpy(new, "secret");
    return ((volatile char *)old)[0] == 's' ? 66 : 2;          /* the same frame */
}
"""


def test_what_was_unmapped_is_out_of_reach_even_where_kvm_kept_a_translation(
    compile_c, engine, monkeypatch
):
    path = compile_c(STALE)
    assert run(path, engine=engine)[0] == 139
    if engine != "kvm" or not os.path.isdir("/sys/module/kvm_pvm"):
        return  # a processor may, but need not, keep what it once found in the tables
    monkeypatch.setattr(Memory, "discard", lambda self, at, size: self.write(at, bytes(size)))
    assert run(path)[0] == 66


def test_a_host_that_does_not_release_pages_ends_the_run(memory):
    """Locked pages are not discarded, mlock(2); the frames would keep what they contain."""
    frames = Frames(LOWEST, memory.size)
    space = Space(memory, frames, PageTables(memory, frames))
    space.map(FAR, PAGE, RW, fixed=True)
    frame = space._areas[0].frame
    assert libc.mlock(ctypes.c_void_p(memory.host + frame), ctypes.c_size_t(PAGE)) == 0
    free = frames.free
    with pytest.raises(GuestError, match=r"^madvise: guest memory invalid argument$"):
        space.unmap(FAR, PAGE)
    assert frames.free == free
    with pytest.raises(GuestError, match=r"^mprotect: guest memory"):
        memory.forget(1, PAGE)


class Locked(Space):
    """The host takes a page away from the monitor, which then cannot give it to the guest."""

    def map(self, address, length, prot, *, fixed=False, fill=None):
        found = super().map(address, length, prot, fixed=fixed, fill=fill)
        if length == 12345:
            (piece,) = self.slices(found, 1)
            at = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(piece)))
            assert libc.mprotect(at, ctypes.c_size_t(PAGE), 0) == 0
        return found


def test_a_page_that_kvm_cannot_read_is_the_program_s_error(compile_c, needs_kvm, monkeypatch):
    path = compile_c(
        "#include <sys/mman.h>\nint main(void) {"
        " return *(volatile char *)mmap(0, 12345, PROT_READ | PROT_WRITE, 34, -1, 0); }"
    )
    assert run(path)[0] == 0
    monkeypatch.setattr(programs, "Space", Locked)
    status, _, _, result = run(path)
    assert (status, result.ending.signal) == (135, signal.SIGBUS)


# --- the window --------------------------------------------------------------------------------

COVER = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
int main(int argc, char **argv) {
    static char a[100], b[100];
    char *window = (void *)strtoul(argv[2], 0, 16);
    munmap(window, 1 << 20);
    mmap(window, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    mprotect(window, 1 << 20, PROT_READ);
    int one = open(argv[1], O_RDONLY), two = open(argv[1], O_RDONLY);
    for (long at = 0; at < 5000; at += 100) {
        pread(two, b, 100, at);
        lseek(one, at, SEEK_SET);
        for (int i = 0; i < 3; i++) if (read(one, a + i, 1) != 1) return 1;
        if (memcmp(a, b, 3)) return 66;
    }
    return 0;
}
"""


def test_no_program_maps_over_the_window_that_its_small_reads_come_from(
    compile_c, needs_kvm, files, monkeypatch
):
    path = compile_c(COVER)
    given = {"root": "/", "memory": 64 * MIB}
    assert run(path, str(files / "big"), f"{HIGHEST:x}", **given)[0] == 0
    below = 0x6FFF_0000_0000
    monkeypatch.setattr(windows, "_ADDRESS", below)
    assert run(path, str(files / "big"), f"{below:x}", **given)[0] == 66


# --- what the monitor keeps --------------------------------------------------------------------

HOLES = r"""
#include <errno.h>
#include <sys/mman.h>
int main(void) {
    char *p = mmap(0, 1L << 40, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (long i = 1; i < 2000; i += 2)
        if (munmap(p + i * 4096, 4096)) return errno == ENOMEM ? 0 : 1;
    return 66;
}
"""


def test_holes_do_not_make_the_monitor_grow(compile_c, engine, monkeypatch):
    path = compile_c(HOLES)
    monkeypatch.setattr(spaces, "_AREAS_MAX", 500)  # as a test, 65530 takes long
    assert run(path, engine=engine)[0] == 0
    monkeypatch.setattr(Space, "_check_room", lambda *_: None)
    assert run(path, engine=engine)[0] == 66


def test_calls_by_endless_numbers_do_not_make_the_monitor_grow(compile_c, engine, monkeypatch):
    path = compile_c(
        "#include <unistd.h>\nint main(void) {"
        " for (long i = 1000; i < 4000; i++) syscall(i); return 0; }"
    )
    _, _, _, result = run(path, engine=engine)
    assert sum(result.unserved.values()) >= 3000
    assert result.unserved["other calls"] >= 2000
    assert max(len(result.unserved), len(result.stats.count)) < 1100
    monkeypatch.setattr(task, "_UNSERVED_MAX", 1 << 32)
    assert len(run(path, engine=engine)[3].stats.count) > 3000
