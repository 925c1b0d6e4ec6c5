"""
Compiled profiles, compared with an independent model of the specification.

A small interpreter of classic BPF shows what a program decides, also for architectures that this
machine does not have, and for more calls and arguments than could be tried for real.
"""

from __future__ import annotations

import errno
import itertools
import os
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycontain.kernel import seccomp
from pycontain.plan import seccomp as plan
from pycontain.spec import parse, records
from tests.kernel.seccomp_profiles import (
    ALLOW,
    AUDIT,
    BIG,
    DOCKERS,
    ERRNO,
    KILL,
    LOG,
    NOTIFY,
    TRACE,
    X32,
    X32_BIT,
    X86,
    X86_64,
    arg,
    dockers_size,
    number_of,
    profile,
    rule,
)

if os.uname().machine != "x86_64":
    pytest.skip("system call numbers of x86-64 are used", allow_module_level=True)


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


def model(policy: plan.Profile, token: int, number: int, args: tuple[int, ...]) -> int:
    """The verdict by the specification and runc's behaviour, if each name has one action."""
    if token not in (X86_64, *policy.architectures):
        return KILL
    numbers = [number_of(name, token) for _, names, _ in policy.rules for name in names]
    if any(-300 < given <= -101 for given in numbers):
        numbers.append(402)  # calls that also go through socketcall(2) or ipc(2)
    permissive = policy.default & 0xFFFF_0000 in (ALLOW, LOG, TRACE, NOTIFY)
    if numbers and not permissive and number > max(numbers) >= 0:
        return ERRNO | errno.ENOSYS
    for action, names, comparisons in policy.rules:
        named = any(number_of(name, token) == number for name in names)
        if named and all(holds(token, args, *comparison) for comparison in comparisons):
            return action
    return policy.default


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
    policy: plan.Profile, arguments: list[tuple[int, ...]]
) -> None:
    program = seccomp.to_bpf(policy)
    for token in (X86_64, X86, X32):
        bit = X32_BIT if token == X32 else 0
        known = {number_of(name, token) for name in NAMES} - {-1}
        numbers = {n for n in known if n >= 0} | {bit, bit | 500, bit | 0x3FFF_FFFF}
        around = numbers | {n + 1 for n in numbers if n + 1 not in (X32_BIT, 2 * X32_BIT)}
        for number, args in itertools.product(sorted(around), arguments):
            decided = interpret(program, AUDIT[token], number, args)
            assert decided == model(policy, token, number, args), (token, number, args)


def test_a_profile_of_dockers_size_decides_as_the_model_does() -> None:
    policy = dockers_size()
    program = seccomp.to_bpf(policy)
    for args in ((0,) * 6, (0x7E02_0000, 0, 0, 0, 0, 0)):
        for number in range(500):
            decided = interpret(program, X86_64, number, args)
            assert decided == model(policy, X86_64, number, args), number
            x32 = interpret(program, X86_64, X32_BIT | number, args)
            assert x32 == model(policy, X32, X32_BIT | number, args), number


@pytest.mark.parametrize(("name", "number"), [("accept4", 364), ("semget", 393)])
def test_multiplexed_calls_of_32_bit_x86_stay_allowed_by_their_direct_number(
    name: str, number: int
) -> None:
    program = seccomp.to_bpf(profile(rule(name), architectures=DOCKERS))
    nothing = (0,) * 6
    assert interpret(program, X86, number, nothing) == ALLOW
    assert interpret(program, X86, number + 1, nothing) == ERRNO | errno.EPERM
    assert interpret(program, X86, 403, nothing) == ERRNO | errno.ENOSYS
