"""
Programs made of profiles, judged three ways: by the running kernel, by a model, and by runc.

The kernel's verdicts come from forked children that load the program and make one call. The model
is a second reading of the specification, compared through a small interpreter of classic BPF.
"""

from __future__ import annotations

import errno
import functools
import itertools
import json
import mmap
import os
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import cffi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycontain.errors import HostError, KernelError, SpecError
from pycontain.kernel import calls, seccomp
from pycontain.kernel._ffi import ffi
from pycontain.plan import seccomp as plan
from pycontain.spec import parse, records

if os.uname().machine != "x86_64":
    pytest.skip("system call numbers of x86-64 are used", allow_module_level=True)

KILL, TRAP, ERRNO, TRACE, LOG, ALLOW = (
    0, 0x0003_0000, 0x0005_0000, 0x7FF0_0000, 0x7FFC_0000, 0x7FFF_0000,
)  # fmt: skip
X86, X86_64, X32 = (plan.ARCHITECTURES[f"SCMP_ARCH_{name}"] for name in ("X86", "X86_64", "X32"))
X32_BIT = 0x4000_0000
AUDIT = {X86: X86, X86_64: X86_64, X32: X86_64}
DOCKERS = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]

GETPID, PERSONALITY, PRCTL, ACCT = 39, 135, 157, 163
NEWEST_HERE = 452  # a number that every kernel and libseccomp in use has
FUTURE = 1000

# What a child needs of the kernel to end and, should an allocation want it, memory.
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


# --- the kernel's verdict ----------------------------------------------------------------------

syscall = ffi.cast(
    "long(*)(long, unsigned long, unsigned long, unsigned long, unsigned long, unsigned long,"
    " unsigned long)",
    ffi.addressof(calls.lib, "syscall"),
)


def in_child(act: Callable[[], int]) -> int:
    """What waitpid says of a child that did this: its exit status, or minus the signal."""
    pid = os.fork()
    if not pid:
        try:
            os._exit(act())
        finally:
            os._exit(255)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def errno_of(number: int, *args: int) -> int:
    """The errno of a system call, 0 when it went well."""
    padded = (*args, 0, 0, 0, 0, 0, 0)[:6]
    return calls.last_error() if syscall(number, *padded) < 0 else 0


def verdict(judge: plan.Profile, number: int, *args: int) -> int:
    """The errno that a child under this profile gets, or minus the signal that it dies of."""
    program = seccomp.to_bpf(judge)

    def act() -> int:
        calls.prctl(38, 1, name="PR_SET_NO_NEW_PRIVS")
        calls.seccomp_filter(program, judge.flags)
        return errno_of(number, *args)

    return in_child(act)


@pytest.mark.parametrize(
    ("action", "outcome"),
    [
        ({"action": "SCMP_ACT_ALLOW"}, 0),
        ({"action": "SCMP_ACT_LOG"}, 0),
        ({"action": "SCMP_ACT_ERRNO"}, errno.EPERM),
        ({"action": "SCMP_ACT_ERRNO", "errnoRet": 93}, 93),
        ({"action": "SCMP_ACT_ERRNO", "errnoRet": 0}, 0),
        ({"action": "SCMP_ACT_TRACE"}, errno.ENOSYS),  # nobody traces
        ({"action": "SCMP_ACT_TRAP"}, -signal.SIGSYS),
        ({"action": "SCMP_ACT_KILL"}, -signal.SIGSYS),
        ({"action": "SCMP_ACT_KILL_THREAD"}, -signal.SIGSYS),
        ({"action": "SCMP_ACT_KILL_PROCESS"}, -signal.SIGSYS),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else str(value),
)
def test_each_action_does_what_its_name_says(action: dict[str, object], outcome: int) -> None:
    default = "SCMP_ACT_KILL_PROCESS" if outcome == 0 else "SCMP_ACT_ALLOW"
    judge = profile({"names": ["getpid"], **action}, TO_END, defaultAction=default)
    assert verdict(judge, GETPID) == outcome


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


BIG = 0x1_0000_0005  # with bits in both halves, which the filter compares one after the other


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
    judge = profile(
        rule("getpid", action="SCMP_ACT_ERRNO", errnoRet=77, args=[comparison]),
        defaultAction="SCMP_ACT_ALLOW",
    )
    assert [verdict(judge, GETPID, 0, 0, value) for value in hits] == [77] * len(hits)
    assert [verdict(judge, GETPID, 0, 0, value) for value in misses] == [0] * len(misses)


def test_comparisons_of_different_arguments_must_all_hold() -> None:
    both = [arg(0, "EQ", 1), arg(1, "GT", 10)]
    judge = profile(
        rule("getpid", action="SCMP_ACT_ERRNO", errnoRet=77, args=both),
        defaultAction="SCMP_ACT_ALLOW",
    )
    assert [verdict(judge, GETPID, *args) for args in ((1, 11), (1, 10), (2, 11))] == [77, 0, 0]


def test_of_comparisons_of_the_same_argument_one_must_hold() -> None:
    either = [arg(0, "EQ", 1), arg(0, "EQ", 2)]
    judge = profile(
        rule("getpid", action="SCMP_ACT_ERRNO", errnoRet=77, args=either),
        defaultAction="SCMP_ACT_ALLOW",
    )
    assert [verdict(judge, GETPID, value) for value in (1, 2, 3)] == [77, 77, 0]


def test_a_call_newer_than_the_profile_is_unknown_and_an_older_one_forbidden() -> None:
    judge = profile(TO_END, rule("personality", "prctl"))  # exit_group, 231, is the newest
    assert verdict(judge, 231 + 1) == errno.ENOSYS
    assert verdict(judge, FUTURE) == errno.ENOSYS
    assert verdict(judge, ACCT) == errno.EPERM


def test_a_profile_that_kills_lets_newer_calls_off_with_enosys() -> None:
    judge = profile(TO_END, defaultAction="SCMP_ACT_KILL_PROCESS")
    assert verdict(judge, FUTURE) == errno.ENOSYS
    assert verdict(judge, ACCT) == -signal.SIGSYS


def test_calls_named_with_the_default_action_count_as_known() -> None:
    judge = profile(TO_END, rule("fchmodat2", action="SCMP_ACT_ERRNO"))
    assert verdict(judge, NEWEST_HERE) == errno.EPERM
    assert verdict(judge, NEWEST_HERE + 1) == errno.ENOSYS


def test_an_x32_call_is_judged_by_x32_numbers() -> None:
    judge = profile(TO_END, rule("prctl"), architectures=DOCKERS)
    assert verdict(judge, X32_BIT | ACCT) == errno.EPERM
    assert verdict(judge, X32_BIT | FUTURE) == errno.ENOSYS
    assert verdict(profile(TO_END), X32_BIT | FUTURE) == -signal.SIGSYS  # x32 is not listed


@pytest.fixture(scope="module")
def int80() -> Iterator[Callable[[int], int]]:
    """A call of the 32-bit x86 kind: its number in, errno out."""
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


def test_a_32_bit_call_is_judged_by_32_bit_numbers(int80: Callable[[int], int]) -> None:
    judge = profile(TO_END, rule("getpid"), rule("acct", action="SCMP_ACT_ERRNO", errnoRet=77),
                    architectures=DOCKERS)  # fmt: skip
    alone = judge.but(architectures=())

    def through(given: plan.Profile, number: int) -> int:
        program = seccomp.to_bpf(given)

        def act() -> int:
            calls.prctl(38, 1, name="PR_SET_NO_NEW_PRIVS")
            calls.seccomp_filter(program, 0)
            return int80(number)

        return in_child(act)

    getpid, acct, getuid, exit_group = 20, 51, 24, 252
    assert through(judge, getpid) == 0
    assert through(judge, acct) == 77
    assert through(judge, getuid) == errno.EPERM
    assert through(judge, exit_group + 1) == errno.ENOSYS
    assert through(alone, getpid) == -signal.SIGSYS


@pytest.mark.parametrize("flag", plan.FLAGS)
def test_the_kernel_takes_every_flag(flag: str) -> None:
    assert verdict(profile(defaultAction="SCMP_ACT_ALLOW", flags=[flag]), GETPID) == 0


def test_without_a_listener_the_kernel_refuses_the_flag_that_is_left_out() -> None:
    def act() -> int:
        calls.prctl(38, 1, name="PR_SET_NO_NEW_PRIVS")
        try:
            calls.seccomp_filter(seccomp.to_bpf(profile(TO_END)), 32)  # WAIT_KILLABLE_RECV
        except KernelError as error:
            return error.errno
        return 0

    assert in_child(act) == errno.EINVAL


# --- the model's verdict -----------------------------------------------------------------------


def interpret(program: bytes, architecture: int, number: int, args: tuple[int, ...]) -> int:
    """Run classic BPF over struct seccomp_data."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, *args)
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator = counter = 0
    while True:
        operation, if_true, if_false, k = code[counter]
        counter += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif operation == 0x54:
            accumulator &= k
        elif operation == 0x05:
            counter += k
        elif operation == 0x06:
            return int(k)
        else:
            holds = {
                0x15: accumulator == k,
                0x25: accumulator > k,
                0x35: accumulator >= k,
                0x45: accumulator & k != 0,
            }[operation]
            counter += if_true if holds else if_false


def model(judge: plan.Profile, token: int, number: int, args: tuple[int, ...]) -> int:
    """The verdict as the specification and runc's behaviour have it, of names with one action."""
    if token not in (X86_64, *judge.architectures):
        return KILL
    numbers = [number_of(name, token) for _, names, _ in judge.rules for name in names]
    if any(-300 < given <= -101 for given in numbers):
        numbers.append(402)  # calls that also go through socketcall(2) or ipc(2)
    permissive = judge.default & 0xFFFF_0000 in (ALLOW, LOG, TRACE)
    if numbers and not permissive and number > max(numbers) >= 0:
        return ERRNO | errno.ENOSYS
    for action, names, comparisons in judge.rules:
        named = any(number_of(name, token) == number for name in names)
        if named and all(holds(token, args, *comparison) for comparison in comparisons):
            return action
    return judge.default


def holds(token: int, args: tuple[int, ...], index: int, op: int, one: int, two: int) -> bool:
    width = 2**64 - 1 if token == X86_64 else 2**32 - 1  # libseccomp: 32-bit ABIs, 32-bit values
    value, one, two = args[index] & width, one & width, two & width
    return {
        1: value != one,
        2: value < one,
        3: value <= one,
        4: value == one,
        5: value >= one,
        6: value > one,
        7: value & one == two & one,
    }[op]


VALUES = st.sampled_from([0, 1, 5, 0xF0, 2**31, 2**32 - 1, 2**32, BIG, 2**63, 2**64 - 1])
ACTIONS = st.one_of(
    st.sampled_from([name for name in plan.ACTIONS if name != "SCMP_ACT_ERRNO"]).map(
        lambda name: {"action": name}
    ),
    st.sampled_from([0, 1, errno.ENOSYS, 4094]).map(
        lambda number: {"action": "SCMP_ACT_ERRNO", "errnoRet": number}
    ),
)
INDEXES, OPERATORS = st.integers(0, 5), st.sampled_from([*plan.OPERATORS])


def comparison(index: int, op: str, value: int, value_two: int) -> dict[str, object]:
    return arg(index, op.removeprefix("SCMP_CMP_"), value, value_two)


ALL_OF = st.lists(
    st.builds(comparison, INDEXES, OPERATORS, VALUES, VALUES),
    max_size=3,
    unique_by=lambda given: given["index"],
)
# libseccomp 2.5.4 merges two orderings of one argument wrongly when both values need 64 bits.
ANY_OF = st.lists(
    st.builds(comparison, st.just(3), OPERATORS, *[st.sampled_from([0, 1, 5, 0xF0])] * 2),
    min_size=2,
    max_size=3,
)
NAMES = ["read", "write", "clone", "ioctl", "getpid", "personality", "arch_prctl", "openat",
         "clone3", "fchmodat2", "nonesuch", "cacheflush", "waitpid", "accept"]  # fmt: skip


@st.composite
def profiles(draw: st.DrawFn) -> plan.Profile:
    named = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=6))
    default = draw(ACTIONS)
    config = {
        "architectures": draw(st.lists(st.sampled_from(DOCKERS), unique=True)),
        "syscalls": [
            {"names": [name], **draw(ACTIONS), "args": draw(ALL_OF | ANY_OF)} for name in named
        ],
        "defaultAction": default["action"],
        "defaultErrnoRet": default.get("errnoRet"),
    }
    return plan.profile(parse.read(records.Seccomp, config, "linux.seccomp"))


@settings(deadline=None, max_examples=300)
@given(profiles(), st.lists(st.tuples(*[VALUES] * 6), min_size=4, max_size=4))
def test_programs_decide_as_the_model_does(
    judge: plan.Profile, arguments: list[tuple[int, ...]]
) -> None:
    program = seccomp.to_bpf(judge)
    for token in (X86_64, X86, X32):
        bit = X32_BIT if token == X32 else 0
        known = {number_of(name, token) for name in NAMES} - {-1}
        numbers = {n for n in known if n >= 0} | {bit, bit | 500, bit | 0x3FFF_FFFF}
        around = numbers | {n + 1 for n in numbers if n + 1 not in (X32_BIT, 2 * X32_BIT)}
        for number, args in itertools.product(sorted(around), arguments):
            decided = interpret(program, AUDIT[token], number, args)
            assert decided == model(judge, token, number, args), (token, number, args)


def test_a_call_the_architecture_lacks_does_not_disarm_the_rules_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judge = profile(
        rule("waitpid", action="SCMP_ACT_ERRNO"),
        rule("personality", action="SCMP_ACT_ERRNO", args=[arg(0, "EQ", 8)]),
        defaultAction="SCMP_ACT_ALLOW",
        architectures=DOCKERS,
    )
    assert verdict(judge, PERSONALITY, 8) == errno.EPERM
    monkeypatch.setattr(seccomp, "_search_by_tree", lambda *_: None)
    if verdict(judge, PERSONALITY, 8) != 0:
        pytest.skip("this libseccomp no longer has the fault that the tree avoids")


def dockers_size() -> plan.Profile:
    """350 names of x86-64, some with conditions, for three architectures."""
    names = [name for number in range(NEWEST_HERE) if (name := name_of(number))][-350:]
    conditional = [
        rule("clone", args=[arg(0, "MASKED_EQ", 0x7E02_0000, 0)]),
        rule("personality", args=[arg(0, "EQ", 0)]),
        rule("personality", args=[arg(0, "EQ", 0xFFFF_FFFF)]),
        rule("clone3", action="SCMP_ACT_ERRNO", errnoRet=errno.ENOSYS),
    ]
    plain = [name for name in names if name not in {"clone", "personality", "clone3"}]
    return profile(rule(*plain), *conditional, architectures=DOCKERS)


def test_a_profile_of_dockers_size_decides_as_the_model_does() -> None:
    judge = dockers_size()
    program = seccomp.to_bpf(judge)
    for args in ((0,) * 6, (0x7E02_0000, 0, 0, 0, 0, 0)):
        for number in range(500):
            decided = interpret(program, X86_64, number, args)
            assert decided == model(judge, X86_64, number, args), number
            x32 = interpret(program, X86_64, X32_BIT | number, args)
            assert x32 == model(judge, X32, X32_BIT | number, args), number


def test_a_profile_of_dockers_size_is_taken_by_the_kernel() -> None:
    judge = dockers_size()
    assert verdict(judge, GETPID) == 0
    assert verdict(judge, PERSONALITY, 0xFFFF_FFFF) == 0
    assert verdict(judge, PERSONALITY, 8) == errno.EPERM
    assert verdict(judge, 435) == errno.ENOSYS  # clone3, by its rule
    assert verdict(judge, FUTURE) == errno.ENOSYS


@pytest.mark.parametrize(("name", "number"), [("accept4", 364), ("semget", 393)])
def test_multiplexed_calls_of_32_bit_x86_stay_allowed_by_their_direct_number(
    name: str, number: int
) -> None:
    program = seccomp.to_bpf(profile(rule(name), architectures=DOCKERS))
    nothing = (0,) * 6
    assert interpret(program, X86, number, nothing) == ALLOW
    assert interpret(program, X86, number + 1, nothing) == ERRNO | errno.EPERM
    assert interpret(program, X86, 403, nothing) == ERRNO | errno.ENOSYS


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

# What runc's own process and the probe call between the loading of the filter and their end.
RUNCS = [
    "arch_prctl", "brk", "chdir", "clone", "close", "epoll_ctl", "epoll_pwait", "execve",
    "exit", "exit_group", "fcntl", "fstat", "fstatfs", "futex", "getdents64", "getppid",
    "getrandom", "ioctl", "lseek", "madvise", "mmap", "mprotect", "munmap", "nanosleep",
    "newfstatat", "openat", "prctl", "prlimit64", "read", "readlink", "readlinkat", "rseq",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sched_yield", "set_robust_list",
    "set_tid_address", "sigaltstack", "stat", "tgkill", "write",
]  # fmt: skip


@pytest.mark.parametrize("given", [{}, {"defaultErrnoRet": 77}, {"defaultErrnoRet": errno.ENOSYS}])
def test_runc_decides_as_we_do(tmp_path: Path, given: dict[str, object]) -> None:
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
    judge = plan.profile(parse.read(records.Seccomp, config, "linux.seccomp"))
    ours = [verdict(judge, *probe) for probe in probes]
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
    # runc wants one cgroup hierarchy where this machine may have a mixture
    script = 'mount -t cgroup2 none /sys/fs/cgroup && exec runc --root "$1/state" run -b "$1" "$2"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(bundle), f"probe-{os.getpid()}"]
    return [int(line) for line in subprocess.check_output(command, text=True).split()]


# --- what cannot be compiled -------------------------------------------------------------------


def test_rules_that_contradict_each_other_are_refused() -> None:
    same = [arg(0, "EQ", 1)]
    with pytest.raises(SpecError, match=r"linux.seccomp.syscalls = write has rules that ask for"):
        seccomp.to_bpf(
            profile(rule("write", args=same), rule("write", action="SCMP_ACT_KILL", args=same))
        )


def test_a_profile_too_long_for_the_kernel_says_how_long_it_is() -> None:
    rules = [rule("ioctl", args=[arg(1, "EQ", value << 32 | value)]) for value in range(2000)]
    with pytest.raises(
        SpecError, match=r"makes a filter of \d+ instructions; the kernel takes 4096"
    ):
        seccomp.to_bpf(profile(*rules))


def test_an_architecture_of_another_byte_order_is_named_by_its_path() -> None:
    given = profile(architectures=["SCMP_ARCH_X86", "SCMP_ARCH_S390X"])
    line = r"linux\.seccomp\.architectures\[1\] = 0x80000016 has another byte order"
    with pytest.raises(HostError, match=line):
        seccomp.to_bpf(given)


def test_an_absent_library_is_named_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "_LIBRARY", "libseccomp.so.0")
    with pytest.raises(HostError, match=r"libseccomp.so.0 cannot be loaded; install libseccomp"):
        seccomp.to_bpf(profile())


# --- the cache ---------------------------------------------------------------------------------


class Cache:
    """A cache whose compilations are counted."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.compilations = 0
        self._compile = seccomp.to_bpf
        monkeypatch.setattr(seccomp, "to_bpf", self._counted)

    def _counted(self, judge: seccomp.Profile) -> bytes:
        self.compilations += 1
        return self._compile(judge)

    def program(self, judge: plan.Profile) -> bytes:
        return seccomp.compiled(judge, plan.key(judge), str(self.directory))

    def file(self) -> Path:
        (only,) = self.directory.iterdir()
        return only


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    return Cache(tmp_path / "seccomp", monkeypatch)


def test_a_profile_is_compiled_once(cache: Cache) -> None:
    judge = dockers_size()
    programs = {cache.program(judge), cache.program(judge), seccomp.to_bpf(judge)}
    assert len(programs) == 1
    assert cache.compilations == 2  # one of them by this test itself
    assert cache.directory.stat().st_mode & 0o7777 == 0o700
    assert cache.file().stat().st_mode & 0o7777 == 0o600


def test_a_hit_does_not_load_the_library(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = profile(rule("read"))
    program = cache.program(judge)
    monkeypatch.setattr(seccomp, "_LIBRARY", "libseccomp.so.0")
    assert cache.program(judge) == program
    with pytest.raises(HostError, match="cannot be loaded"):
        cache.program(profile(rule("write")))


def test_a_damaged_file_is_made_again(cache: Cache) -> None:
    judge = profile(rule("read"))
    program = cache.program(judge)
    whole = cache.file().read_bytes()
    damages = [b"", whole[:-8], whole + bytes(8), whole[:-1] + bytes([whole[-1] ^ 1]), bytes(400)]
    for damaged in damages:
        cache.file().write_bytes(damaged)
        assert cache.program(judge) == program
        assert cache.file().read_bytes() == whole
    assert cache.compilations == 1 + len(damages)


def test_a_well_made_file_of_someone_else_is_not_believed(cache: Cache) -> None:
    judge = profile(rule("read"))
    program = cache.program(judge)
    lax = struct.pack("=HBBI", 6, 0, 0, ALLOW)
    stamp = cache.file().read_bytes()[32:].partition(b"\n")[0]
    rest = stamp + b"\n" + lax
    cache.file().write_bytes(seccomp._digest(plan.key(judge), rest) + rest)
    assert cache.program(judge) == lax  # as long as it is ours, it would be believed

    os.chown(cache.file(), 65534, 65534)
    assert cache.program(judge) == program
    assert cache.file().stat().st_uid == os.geteuid()

    cache.file().write_bytes(seccomp._digest(plan.key(judge), rest) + rest)
    cache.file().chmod(0o620)
    assert cache.program(judge) == program
    assert cache.compilations == 3


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_directory_that_others_can_write_to_is_refused(cache: Cache, mode: int) -> None:
    cache.directory.mkdir()
    cache.directory.chmod(mode)
    with pytest.raises(HostError, match="belongs to another user, or others can write to it"):
        cache.program(profile(rule("read")))


def test_a_directory_of_another_user_is_refused(cache: Cache) -> None:
    cache.directory.mkdir(0o700)
    os.chown(cache.directory, 65534, 65534)
    with pytest.raises(HostError, match="remove it: a new one is made"):
        cache.program(profile(rule("read")))


def test_a_symbolic_link_is_not_followed(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(0o700)
    cache.directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="Not a directory"):
        cache.program(profile(rule("read")))


def test_another_libseccomp_makes_the_program_again(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = profile(rule("read"))
    path = tmp_path / "libseccomp.so.2"
    path.write_bytes(b"one build")
    monkeypatch.setattr(seccomp, "_library_path", lambda: os.fsencode(path))
    cache.program(judge)
    cache.program(judge)
    assert cache.compilations == 1
    path.write_bytes(b"the next build")
    cache.program(judge)
    cache.program(judge)
    assert cache.compilations == 2
    path.rename(tmp_path / "moved")
    monkeypatch.setattr(seccomp, "_library_path", lambda: os.fsencode(tmp_path / "moved"))
    cache.program(judge)
    cache.program(judge)
    assert cache.compilations == 3


def test_profiles_that_share_a_place_replace_each_other(cache: Cache) -> None:
    places: dict[str, plan.Profile] = {}
    for number in itertools.count():
        second = profile(rule("read", args=[arg(0, "EQ", number)]))
        first = places.setdefault(plan.key(second).hex()[:3], second)
        if first is not second:
            break
    for judge in (first, second, first):
        assert cache.program(judge) == seccomp.to_bpf(judge)
    assert cache.compilations == 6  # three of them by this test itself
    assert cache.file().is_file()


def test_two_writers_leave_one_whole_file(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = profile(rule("read"))
    unlink = os.unlink

    def overtaken(path: str, *, dir_fd: int) -> None:
        monkeypatch.setattr(os, "unlink", unlink)
        cache.program(judge)
        raise FileNotFoundError

    monkeypatch.setattr(os, "unlink", overtaken)
    assert cache.program(judge) == seccomp.to_bpf(judge)
    assert cache.compilations == 3
    assert cache.program(judge) == seccomp.to_bpf(judge)
    assert cache.compilations == 4
    assert cache.file().is_file()
