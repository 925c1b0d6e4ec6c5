"""Profiles to test, the numbers in them, and their effect on the running kernel."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable

import cffi

from pycontain.kernel import calls, seccomp
from pycontain.kernel._ffi import ffi
from pycontain.plan import seccomp as plan
from pycontain.spec import parse, records

KILL, TRAP, ERRNO, NOTIFY, TRACE, LOG, ALLOW = (
    0, 0x0003_0000, 0x0005_0000, 0x7FC0_0000, 0x7FF0_0000, 0x7FFC_0000, 0x7FFF_0000,
)  # fmt: skip
X86, X86_64, X32 = (plan.ARCHITECTURES[f"SCMP_ARCH_{name}"] for name in ("X86", "X86_64", "X32"))
X32_BIT = 0x4000_0000
AUDIT = {X86: X86, X86_64: X86_64, X32: X86_64}
DOCKERS = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]

GETPID, PERSONALITY, ACCT = 39, 135, 163
NEWEST = 439  # faccessat2, known to libseccomp since 2.5.0
FUTURE = 1000

BIG = 0x1_0000_0005  # with bits in both halves, which the filter compares one after the other

# The calls that a child needs to exit and, if it allocates, to get memory.
TO_END = {
    "names": ["exit_group", "mmap", "munmap", "brk", "futex", "rt_sigreturn"],
    "action": "SCMP_ACT_ALLOW",
}

resolver = cffi.FFI()
resolver.cdef("char *seccomp_syscall_resolve_num_arch(uint32_t, int); void free(void *);")
resolver.cdef("int seccomp_syscall_resolve_name_arch(uint32_t, const char *);")
library = resolver.dlopen("libseccomp.so.2")
libc = resolver.dlopen(None)


@functools.cache
def number_of(name: str, token: int) -> int:
    return int(library.seccomp_syscall_resolve_name_arch(token, name.encode()))


def name_of(number: int) -> str | None:
    found = library.seccomp_syscall_resolve_num_arch(X86_64, number)
    if not found:
        return None
    name = bytes(resolver.string(found)).decode()
    libc.free(found)
    return name


def profile(*rules: dict[str, object], **given: object) -> plan.Profile:
    config = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(rules), **given}
    return plan.profile(parse.read(records.Seccomp, config, "linux.seccomp"))


def rule(*names: str, action: str = "SCMP_ACT_ALLOW", **given: object) -> dict[str, object]:
    return {"names": list(names), "action": action, **given}


def arg(index: int, op: str, value: int, value_two: int = 0) -> dict[str, object]:
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": value_two}


def dockers_size() -> plan.Profile:
    """350 names of x86-64, some with conditions, for three architectures."""
    names = [name for number in range(NEWEST + 1) if (name := name_of(number))][-350:]
    conditional = [
        rule("clone", args=[arg(0, "MASKED_EQ", 0x7E02_0000, 0)]),
        rule("personality", args=[arg(0, "EQ", 0)]),
        rule("personality", args=[arg(0, "EQ", 0xFFFF_FFFF)]),
        rule("clone3", action="SCMP_ACT_ERRNO", errnoRet=errno.ENOSYS),
    ]
    plain = [name for name in names if name not in {"clone", "personality", "clone3"}]
    return profile(rule(*plain), *conditional, architectures=DOCKERS)


syscall = ffi.cast(
    "long(*)(long, unsigned long, unsigned long, unsigned long, unsigned long, unsigned long,"
    " unsigned long)",
    ffi.addressof(calls.lib, "syscall"),
)


def in_child(act: Callable[[], int]) -> int:
    """Do this in a child; returns its exit status, or minus the signal that killed it."""
    pid = os.fork()
    if not pid:
        try:
            os._exit(act())
        finally:
            os._exit(255)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def errno_of(number: int, *args: int) -> int:
    """The errno of a system call, 0 on success."""
    padded = (*args, 0, 0, 0, 0, 0, 0)[:6]
    return calls.ffi.errno if syscall(number, *padded) < 0 else 0


def verdict(policy: plan.Profile, number: int, *args: int) -> int:
    """The errno that a child under this profile gets, or minus the signal that kills it."""
    program = seccomp.to_bpf(policy)

    def act() -> int:
        calls.prctl(38, 1, name="PR_SET_NO_NEW_PRIVS")
        calls.seccomp_filter(program, policy.flags)
        return errno_of(number, *args)

    return in_child(act)
