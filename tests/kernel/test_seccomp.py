"""Compiled profiles on the running kernel, and compared with runc."""

from __future__ import annotations

import errno
import json
import mmap
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pycontain.errors import HostError, KernelError, SpecError
from pycontain.kernel import calls, seccomp
from pycontain.kernel._ffi import ffi
from pycontain.plan import seccomp as plan
from pycontain.spec import parse, records
from tests.kernel.seccomp_profiles import (
    ACCT,
    BIG,
    DOCKERS,
    FUTURE,
    GETPID,
    NEWEST,
    PERSONALITY,
    TO_END,
    X32_BIT,
    arg,
    dockers_size,
    errno_of,
    in_child,
    profile,
    rule,
    verdict,
)

if os.uname().machine != "x86_64":
    pytest.skip("system call numbers of x86-64 are used", allow_module_level=True)


@pytest.mark.property(
    "linux.seccomp",
    "linux.seccomp.defaultAction",
    "linux.seccomp.defaultErrnoRet",
    "linux.seccomp.syscalls",
    "linux.seccomp.syscalls[].names",
    "linux.seccomp.syscalls[].action",
    "linux.seccomp.syscalls[].errnoRet",
)
@pytest.mark.parametrize(
    ("action", "outcome"),
    [
        ({"action": "SCMP_ACT_ALLOW"}, 0),
        ({"action": "SCMP_ACT_LOG"}, 0),
        ({"action": "SCMP_ACT_ERRNO"}, errno.EPERM),
        ({"action": "SCMP_ACT_ERRNO", "errnoRet": 93}, 93),
        ({"action": "SCMP_ACT_ERRNO", "errnoRet": 0}, 0),
        ({"action": "SCMP_ACT_TRACE"}, errno.ENOSYS),  # without a tracer
        ({"action": "SCMP_ACT_TRAP"}, -signal.SIGSYS),
        ({"action": "SCMP_ACT_KILL"}, -signal.SIGSYS),
        ({"action": "SCMP_ACT_KILL_THREAD"}, -signal.SIGSYS),
        ({"action": "SCMP_ACT_KILL_PROCESS"}, -signal.SIGSYS),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else str(value),
)
def test_each_action_has_the_outcome_of_its_name(action: dict[str, object], outcome: int) -> None:
    default = "SCMP_ACT_KILL_PROCESS" if outcome == 0 else "SCMP_ACT_ALLOW"
    policy = profile({"names": ["getpid"], **action}, TO_END, defaultAction=default)
    assert verdict(policy, GETPID) == outcome


@pytest.mark.parametrize("default", ["SCMP_ACT_TRAP", "SCMP_ACT_KILL"])
def test_a_trap_can_be_caught_and_a_kill_cannot(default: str) -> None:
    program = seccomp.to_bpf(profile(TO_END, rule("personality"), defaultAction=default))

    def act() -> int:
        signal.signal(signal.SIGSYS, lambda *_: os._exit(99))
        calls.prctl(38, 1, name="PR_SET_NO_NEW_PRIVS")
        calls.seccomp_filter(program, 0)
        errno_of(GETPID)
        return 0

    assert in_child(act) == (99 if default == "SCMP_ACT_TRAP" else -signal.SIGSYS)


@pytest.mark.property("linux.seccomp.syscalls[].args*")
@pytest.mark.parametrize(
    ("comparison", "hits", "misses"),
    [
        (arg(2, "EQ", BIG), [BIG], [5, BIG - 1, BIG + 1]),
        (arg(2, "NE", BIG), [5, BIG + 1], [BIG]),
        (arg(2, "LT", BIG), [0, 6, BIG - 1], [BIG, BIG + 1, 2 << 32]),
        (arg(2, "LE", BIG), [0, 6, BIG], [BIG + 1, 2 << 32]),
        (arg(2, "GE", BIG), [BIG, BIG + 1, 2 << 32], [0, 6, BIG - 1]),
        (arg(2, "GT", BIG), [BIG + 1, 2 << 32], [0, 6, BIG]),
        (arg(2, "MASKED_EQ", 0xF0, 0x10), [0x10, 0x1F, BIG << 8 | 0x10], [0, 0x20, 0x30]),
        (arg(5, "EQ", 2**64 - 1), [], [0]),
    ],
    ids=lambda value: str(value["op"]) if isinstance(value, dict) else "",
)
def test_each_operator_compares_all_64_bits(
    comparison: dict[str, object], hits: list[int], misses: list[int]
) -> None:
    policy = profile(
        rule("getpid", action="SCMP_ACT_ERRNO", errnoRet=77, args=[comparison]),
        defaultAction="SCMP_ACT_ALLOW",
    )
    assert [verdict(policy, GETPID, 0, 0, value) for value in hits] == [77] * len(hits)
    assert [verdict(policy, GETPID, 0, 0, value) for value in misses] == [0] * len(misses)


def test_comparisons_of_different_arguments_must_all_hold() -> None:
    both = [arg(0, "EQ", 1), arg(1, "GT", 10)]
    policy = profile(
        rule("getpid", action="SCMP_ACT_ERRNO", errnoRet=77, args=both),
        defaultAction="SCMP_ACT_ALLOW",
    )
    assert [verdict(policy, GETPID, *args) for args in ((1, 11), (1, 10), (2, 11))] == [77, 0, 0]


def test_one_of_several_comparisons_of_the_same_argument_must_hold() -> None:
    either = [arg(0, "EQ", 1), arg(0, "EQ", 2)]
    policy = profile(
        rule("getpid", action="SCMP_ACT_ERRNO", errnoRet=77, args=either),
        defaultAction="SCMP_ACT_ALLOW",
    )
    assert [verdict(policy, GETPID, value) for value in (1, 2, 3)] == [77, 77, 0]


def test_a_call_newer_than_the_profile_is_unknown_and_an_older_one_forbidden() -> None:
    policy = profile(TO_END, rule("personality", "prctl"))  # exit_group, 231, is the newest
    assert verdict(policy, 231 + 1) == errno.ENOSYS
    assert verdict(policy, FUTURE) == errno.ENOSYS
    assert verdict(policy, ACCT) == errno.EPERM


def test_newer_calls_get_enosys_even_from_a_profile_that_kills() -> None:
    policy = profile(TO_END, defaultAction="SCMP_ACT_KILL_PROCESS")
    assert verdict(policy, FUTURE) == errno.ENOSYS
    assert verdict(policy, ACCT) == -signal.SIGSYS


def test_calls_named_with_the_default_action_count_as_known() -> None:
    policy = profile(TO_END, rule("faccessat2", action="SCMP_ACT_ERRNO"))
    assert verdict(policy, NEWEST) == errno.EPERM
    assert verdict(policy, NEWEST + 1) == errno.ENOSYS


@pytest.mark.property("linux.seccomp.architectures")
def test_an_x32_call_is_checked_by_its_x32_number() -> None:
    policy = profile(TO_END, rule("prctl"), architectures=DOCKERS)
    assert verdict(policy, X32_BIT | ACCT) == errno.EPERM
    assert verdict(policy, X32_BIT | FUTURE) == errno.ENOSYS
    assert verdict(profile(TO_END), X32_BIT | FUTURE) == -signal.SIGSYS  # x32 is not listed


@pytest.fixture(scope="module")
def int80() -> Iterator[Callable[[int], int]]:
    """Make a 32-bit x86 call: takes its number, returns its errno."""
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex("53 89f8 31db cd80 5b c3"))  # push rbx; eax = edi; ebx = 0; int 0x80
    code = ffi.from_buffer(page)
    call = ffi.cast("int(*)(int)", ffi.addressof(code))
    getpid = 20
    if in_child(lambda: int(call(getpid) != os.getpid())):
        pytest.skip("the kernel has no 32-bit calls (CONFIG_IA32_EMULATION)")
    yield lambda number: max(0, -call(number))
    ffi.release(code)
    page.close()


@pytest.mark.property("linux.seccomp.architectures")
def test_a_32_bit_call_is_checked_by_its_32_bit_number(int80: Callable[[int], int]) -> None:
    policy = profile(TO_END, rule("getpid"), rule("acct", action="SCMP_ACT_ERRNO", errnoRet=77),
                    architectures=DOCKERS)  # fmt: skip
    alone = policy.replace(architectures=())

    def through(given: plan.Profile, number: int) -> int:
        program = seccomp.to_bpf(given)

        def act() -> int:
            calls.prctl(38, 1, name="PR_SET_NO_NEW_PRIVS")
            calls.seccomp_filter(program, 0)
            return int80(number)

        return in_child(act)

    getpid, acct, getuid, exit_group = 20, 51, 24, 252
    assert through(policy, getpid) == 0
    assert through(policy, acct) == 77
    assert through(policy, getuid) == errno.EPERM
    assert through(policy, exit_group + 1) == errno.ENOSYS
    assert through(alone, getpid) == -signal.SIGSYS


@pytest.mark.property("linux.seccomp.flags")
@pytest.mark.parametrize("flag", plan.FLAGS)
def test_the_kernel_accepts_every_flag_of_seccomp(flag: str) -> None:
    assert verdict(profile(defaultAction="SCMP_ACT_ALLOW", flags=[flag]), GETPID) == 0


def test_without_a_listener_the_kernel_refuses_the_omitted_flag() -> None:
    def act() -> int:
        calls.prctl(38, 1, name="PR_SET_NO_NEW_PRIVS")
        try:
            calls.seccomp_filter(seccomp.to_bpf(profile(TO_END)), 32)  # WAIT_KILLABLE_RECV
        except KernelError as error:
            return error.errno
        return 0

    assert in_child(act) == errno.EINVAL


def test_the_kernel_accepts_a_profile_of_dockers_size() -> None:
    policy = dockers_size()
    assert verdict(policy, GETPID) == 0
    assert verdict(policy, PERSONALITY, 0xFFFF_FFFF) == 0
    assert verdict(policy, PERSONALITY, 8) == errno.EPERM
    assert verdict(policy, 435) == errno.ENOSYS  # clone3, by its rule
    assert verdict(policy, FUTURE) == errno.ENOSYS


def test_a_call_the_architecture_lacks_does_not_disable_the_rules_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = profile(
        rule("waitpid", action="SCMP_ACT_ERRNO"),
        rule("personality", action="SCMP_ACT_ERRNO", args=[arg(0, "EQ", 8)]),
        defaultAction="SCMP_ACT_ALLOW",
        architectures=DOCKERS,
    )
    assert verdict(policy, PERSONALITY, 8) == errno.EPERM
    monkeypatch.setattr(seccomp, "_search_by_tree", lambda *_: None)
    if verdict(policy, PERSONALITY, 8) != 0:
        pytest.skip("this libseccomp no longer has the fault that the tree avoids")


# --- runc's verdict ----------------------------------------------------------------------------

PROBE = """
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int count, char **pairs) {
    for (int i = 1; i + 1 < count; i += 2) {
        long result = syscall(strtol(pairs[i], 0, 10), strtoul(pairs[i + 1], 0, 10), 0, 0, 0, 0, 0);
        printf("%d\\n", result < 0 ? errno : 0);
    }
}
"""

# The calls that runc's own process and the probe make between loading the filter and exiting.
RUNCS = [
    "arch_prctl", "brk", "chdir", "clone", "close", "epoll_ctl", "epoll_pwait", "execve",
    "exit", "exit_group", "fcntl", "fstat", "fstatfs", "futex", "getdents64", "getppid",
    "getrandom", "ioctl", "lseek", "madvise", "mmap", "mprotect", "munmap", "nanosleep",
    "newfstatat", "openat", "prctl", "prlimit64", "read", "readlink", "readlinkat", "rseq",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sched_yield", "set_robust_list",
    "set_tid_address", "sigaltstack", "stat", "tgkill", "write",
]  # fmt: skip


@pytest.mark.parametrize("given", [{}, {"defaultErrnoRet": 77}, {"defaultErrnoRet": errno.ENOSYS}])
def test_runc_and_pycontain_decide_alike(tmp_path: Path, given: dict[str, object]) -> None:
    for tool in ("runc", "unshare", "cc"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}")
    either = [arg(0, "EQ", 8), arg(0, "EQ", 0xFFFF_FFFF)]
    config = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": DOCKERS,
        "syscalls": [
            rule(*RUNCS, "getpid", "waitpid"),
            rule("personality", action="SCMP_ACT_ERRNO", errnoRet=5, args=either),
            rule("personality", args=[arg(0, "EQ", 9)]),
        ],
        **given,
    }
    probes = [(GETPID, 0), (PERSONALITY, 0xFFFF_FFFF), (PERSONALITY, 8), (PERSONALITY, 9),
              (PERSONALITY, 10), (ACCT, 0), (250, 0), (424, 0), (FUTURE, 0), (X32_BIT | GETPID, 0),
              (X32_BIT | ACCT, 0), (X32_BIT | FUTURE, 0)]  # fmt: skip
    policy = plan.profile(parse.read(records.Seccomp, config, "linux.seccomp"))
    ours = [verdict(policy, *probe) for probe in probes]
    assert run_in_runc(tmp_path, config, probes) == ours


def run_in_runc(bundle: Path, seccomp: object, probes: list[tuple[int, int]]) -> list[int]:
    """The errno of each probe in a container of runc with this profile."""
    (bundle / "rootfs").mkdir()
    build = ["cc", "-static", "-x", "c", "-o", str(bundle / "rootfs/probe"), "-"]
    subprocess.run(build, input=PROBE, text=True, check=True)
    args = ["/probe", *(str(number) for probe in probes for number in probe)]
    process = {"args": args, "cwd": "/", "noNewPrivileges": True, "user": {"uid": 0, "gid": 0}}
    namespaces = [{"type": "pid"}, {"type": "mount"}]
    config = {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": "rootfs"},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": namespaces, "seccomp": seccomp},
    }
    (bundle / "config.json").write_text(json.dumps(config))
    # runc requires a single cgroup hierarchy; this machine may have a mixture
    script = 'mount -t cgroup2 none /sys/fs/cgroup && exec runc --root "$1/state" run -b "$1" "$2"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(bundle), f"probe-{os.getpid()}"]
    return [int(line) for line in subprocess.check_output(command, text=True).split()]


# --- what cannot be compiled -------------------------------------------------------------------


def test_rules_that_contradict_each_other_are_refused() -> None:
    same = [arg(0, "EQ", 1)]
    with pytest.raises(SpecError, match=r"linux.seccomp.syscalls = write has rules with different"):
        seccomp.to_bpf(
            profile(rule("write", args=same), rule("write", action="SCMP_ACT_KILL", args=same))
        )


def test_a_profile_too_long_for_the_kernel_is_refused_with_its_length() -> None:
    rules = [rule("ioctl", args=[arg(1, "EQ", value << 32 | value)]) for value in range(2000)]
    with pytest.raises(SpecError, match=r"needs \d+ instructions; the kernel accepts 4096"):
        seccomp.to_bpf(profile(*rules))


def test_an_architecture_of_another_byte_order_is_named_by_its_path() -> None:
    given = profile(architectures=["SCMP_ARCH_X86", "SCMP_ARCH_S390X"])
    line = r"linux\.seccomp\.architectures\[1\] = 0x80000016 has a different byte order"
    with pytest.raises(HostError, match=line):
        seccomp.to_bpf(given)


def test_a_missing_libseccomp_is_named_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "_LIBRARY", "libseccomp.so.0")
    with pytest.raises(HostError, match=r"libseccomp.so.0 cannot be loaded; install libseccomp"):
        seccomp.to_bpf(profile())
