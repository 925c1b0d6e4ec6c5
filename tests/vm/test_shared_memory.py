"""Memory that is shared with files and other processes: as natively, and bounded."""

from __future__ import annotations

import subprocess

import pytest

from pycontain.vm import Volume
from tests.vm.programs import compile_c, run

__all__ = ["compile_c"]  # a fixture

SHARES = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int count, char **argument) {
    int f = open("shared", O_RDWR | O_CREAT | O_TRUNC, 0644); ftruncate(f, 8192);
    char *p = mmap(0, 8192, 3, MAP_SHARED, f, 0), *q = mmap(0, 4096, 3, MAP_SHARED, f, 4096), b[10];
    strcpy(p, "hello"); strcpy(q, "second");
    pread(f, b, 6, 0); puts(b); pread(f, b, 7, 4096); puts(b);
    pwrite(f, "J", 1, 0); puts(p); puts(p + 4096);
    if (!fork()) { strcpy(p, "child"); _exit(0); }
    wait(0); puts(p);
    printf("%d %d\n", msync(p, 8192, MS_SYNC), msync(p + 1, 1, MS_SYNC) && errno == EINVAL);
    int m = memfd_create("x", MFD_ALLOW_SEALING); ftruncate(m, 4096);
    char *r = mmap(0, 4096, 3, MAP_SHARED, m, 0); r[0] = 'm'; pread(m, b, 1, 0); printf("%c\n", b[0]);
    printf("%d %d\n", fcntl(m, F_ADD_SEALS, F_SEAL_SHRINK), ftruncate(m, 0) && errno == EPERM);
    int ro = open("shared", O_RDONLY);
    printf("%d\n", mmap(0, 4096, 3, MAP_SHARED, ro, 0) == MAP_FAILED && errno == EACCES);
    printf("%d\n", mmap(0, 4096, 3, MAP_SHARED, f, 5) == MAP_FAILED && errno == EINVAL);
    munmap(q, 4096); munmap(p, 4096); puts(p + 4096);
    int s = shm_open("/pct-test", O_RDWR | O_CREAT, 0600); printf("%d\n", s >= 0); shm_unlink("/pct-test");
    fflush(stdout);
    if (count > 1) { ftruncate(f, 0); p[4096] = 1; puts("no"); }
    return 0;
}
"""


@pytest.mark.parametrize("arguments", [[], ["beyond"]], ids=["whole", "truncated"])
def test_shared_pages_do_what_they_do_natively(compile_c, needs_kvm, tmp_path, arguments):
    path = compile_c(SHARES, "-static")
    native = subprocess.run(
        [path, *arguments], check=False, cwd=tmp_path, capture_output=True, timeout=20
    )
    expected = native.returncode if native.returncode >= 0 else 128 - native.returncode
    volume = Volume(host=str(tmp_path), guest=str(tmp_path), writable=True)
    status, output, _, _ = run(
        path, *arguments, root="/", cwd=str(tmp_path), volumes=(volume,), timeout=20
    )
    assert (status, output) == (expected, native.stdout)


BOMB = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
static char page[1 << 20];
int main(void) {
    long sum = 0; int got;
    for (int i = 0; i < 40; i++) {
        int f = memfd_create("x", 0);
        for (int k = 0; k < 16 && (got = write(f, page, sizeof page)) > 0; k++) sum += got;
    }
    printf("%ld %d ", sum >> 20, errno == ENOSPC);
    int f = memfd_create("x", 0); printf("%d ", ftruncate(f, 1L << 40) < 0 && errno == ENOSPC);
    f = shm_open("/pct-test", O_RDWR | O_CREAT, 0600); sum = 0;
    memset(page, 1, sizeof page);
    while ((got = write(f, page, sizeof page)) > 0) sum += got;
    printf("%ld %d\n", sum >> 20, errno == ENOSPC);
    return 0;
}
"""


def test_files_in_memory_have_a_limit(compile_c, needs_kvm):
    path = compile_c(BOMB, "-static")
    status, output, _, _ = run(path, root="/", memory=64 << 20, timeout=30)
    assert (status, output) == (0, b"64 1 1 32 1\n")
