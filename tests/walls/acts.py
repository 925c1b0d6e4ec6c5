"""What hostile code does to the kernel that it finds, and which wall holds."""

from __future__ import annotations

from typing import NamedTuple

WEAK, CONTAINER, VM = "a weak container", "a container", "a VM in the weak container"
WALLS = (WEAK, CONTAINER, VM)


class Act(NamedTuple):
    """
    An act: C code that returns 1 if it has reached the host's kernel, else 0.

    holds  the walls that stop it
    """

    name: str
    about: str
    code: str
    holds: tuple[str, ...]


ACTS = (
    Act("keyring", "stores a key in its user's keyring, which no namespace separates",
        'return syscall(SYS_add_key, "user", "pct", "x", 1, -4) > 0;', (CONTAINER, VM)),
    Act("io_uring", "sets up io_uring, which makes calls that no filter sees",
        "char p[120] = {0}; return syscall(SYS_io_uring_setup, 1, p) >= 0 || errno != ENOSYS"
        " && errno != EPERM;", (CONTAINER, VM)),
    Act("kernel log", "reads the messages of the host's kernel",
        "return syscall(SYS_syslog, 10, 0, 0) >= 0;", (CONTAINER, VM)),
    Act("user namespace", "becomes root of a new user namespace, from where more can be reached",
        "return syscall(SYS_unshare, 0x10000000) == 0;", (CONTAINER, VM)),
    Act("BPF", "asks the kernel's BPF for a map",
        "char a[72] = {0}; a[0] = 2; a[4] = 4; a[8] = 4; a[12] = 1;"
        " return syscall(SYS_bpf, 0, a, 72) >= 0 || errno != EPERM && errno != ENOSYS;",
        (CONTAINER, VM)),
    Act("mount", "mounts a file system of the kernel's",
        'return mount("none", "/tmp", "tmpfs", 0, 0) == 0;', (CONTAINER, VM)),
    Act("keys of others", "reads /proc/keys",
        'char b[9]; return read(open("/proc/keys", 0), b, 9) > 0;', (CONTAINER, VM)),
    Act("unlisted call", "makes a call that hardly anybody needs: quotactl",
        "return syscall(SYS_quotactl, 0x800001 << 8, 0, 0, 0) == 0 || errno != EPERM"
        " && errno != ENOSYS;", (CONTAINER, VM)),
    Act("another process", "reads the memory of another process of the container",
        "int x = 7, y = 0; struct iovec to = { &y, 4 }, from = { &x, 4 }; int child = fork();"
        " if (!child) { process_vm_readv(getppid(), &to, 1, &from, 1, 0); _exit(y); }"
        " int s; while (waitpid(child, &s, 0) != child); return s >> 8 == 7;",
        (VM,)),
    Act("kernel version", "learns which kernel to attack",
        'struct utsname u; uname(&u); return strcmp(u.release, "5.14.0-pycontain") != 0;', (VM,)),
)  # fmt: skip

HEAD = """\
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
"""


def source() -> str:
    """A C program that commits the act whose number it is given, and says whether it succeeded."""
    functions = "".join(
        f"static int act{number}(void) {{ {act.code} }}\n" for number, act in enumerate(ACTS)
    )
    names = ", ".join(f"act{number}" for number in range(len(ACTS)))
    return (
        f"{HEAD}{functions}static int (*acts[])(void) = {{ {names} }};\n"
        'int main(int n, char **a) { int i; sscanf(a[1], "%d", &i);\n'
        '  puts(acts[i]() ? "reached" : "held"); return 0; }\n'
    )


def table() -> str:
    """The table of the documentation."""
    lines = [f"| act | what it does | {' | '.join(WALLS)} |", "|---|---|" + "---|" * len(WALLS)]
    for act in ACTS:
        cells = " | ".join("held" if wall in act.holds else "reached" for wall in WALLS)
        lines.append(f"| {act.name} | {act.about} | {cells} |")
    return "\n".join(lines)
