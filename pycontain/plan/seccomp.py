"""
`linux.seccomp` as numbers: what libseccomp and seccomp(2) take, worked out without asking either.

Source: config-linux.md, Seccomp; seccomp(2); <linux/audit.h>; <seccomp.h> of libseccomp 2.6.
"""

from __future__ import annotations

import errno

from ..errors import SpecError
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from ..spec import records

    Comparison: TypeAlias = tuple[int, int, int, int]
    Rule: TypeAlias = tuple[int, tuple[str, ...], tuple[Comparison, ...]]

_64BIT = 0x8000_0000
_LE = 0x4000_0000
_N32 = 0x2000_0000

# AUDIT_ARCH_*: the ELF machine, its word size and byte order. Only x32 has a number of
# libseccomp's own, because to the kernel it is x86-64 with bit 30 set in the call's number.
ARCHITECTURES = {
    "SCMP_ARCH_X86": 3 | _LE,
    "SCMP_ARCH_X86_64": 62 | _64BIT | _LE,
    "SCMP_ARCH_X32": 62 | _LE,
    "SCMP_ARCH_ARM": 40 | _LE,
    "SCMP_ARCH_AARCH64": 183 | _64BIT | _LE,
    "SCMP_ARCH_MIPS": 8,
    "SCMP_ARCH_MIPS64": 8 | _64BIT,
    "SCMP_ARCH_MIPS64N32": 8 | _64BIT | _N32,
    "SCMP_ARCH_MIPSEL": 8 | _LE,
    "SCMP_ARCH_MIPSEL64": 8 | _64BIT | _LE,
    "SCMP_ARCH_MIPSEL64N32": 8 | _64BIT | _LE | _N32,
    "SCMP_ARCH_PPC": 20,
    "SCMP_ARCH_PPC64": 21 | _64BIT,
    "SCMP_ARCH_PPC64LE": 21 | _64BIT | _LE,
    "SCMP_ARCH_S390": 22,
    "SCMP_ARCH_S390X": 22 | _64BIT,
    "SCMP_ARCH_PARISC": 15,
    "SCMP_ARCH_PARISC64": 15 | _64BIT,
    "SCMP_ARCH_RISCV64": 243 | _64BIT | _LE,
    "SCMP_ARCH_LOONGARCH64": 258 | _64BIT | _LE,
    "SCMP_ARCH_M68K": 4,
    "SCMP_ARCH_SH": 42 | _LE,
    "SCMP_ARCH_SHEB": 42,
}

# SCMP_ACT_NOTIFY is not here: spec.check refuses it.
ACTIONS = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": 0x8000_0000,
    "SCMP_ACT_TRAP": 0x0003_0000,
    "SCMP_ACT_ERRNO": 0x0005_0000,
    "SCMP_ACT_TRACE": 0x7FF0_0000,
    "SCMP_ACT_LOG": 0x7FFC_0000,
    "SCMP_ACT_ALLOW": 0x7FFF_0000,
}

# Actions that carry a number in their low 16 bits, and the largest one. libseccomp takes an errno
# below the kernel's MAX_ERRNO, which is 4095.
_LARGEST_ERRNO = {"SCMP_ACT_ERRNO": 4094, "SCMP_ACT_TRACE": 0xFFFF}

OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}

FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    # Says how a listener's requests are waited for. Without SCMP_ACT_NOTIFY there is no listener,
    # and the kernel answers EINVAL to the flag (bit 5) alone.
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 0,
}

# What runc and crun do when the profile has no list of flags (an empty list is obeyed): the
# mitigation of CVE-2018-3639 slows every program down, and since 5.16 it is off for seccomp anyway.
_FLAGS_WHEN_ABSENT = FLAGS["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]


class Profile(Record):
    """
    A profile as numbers.

    default        the action for calls that no rule matches, as the filter returns it
    architectures  whose calls it judges besides the native ones, as libseccomp numbers them
    flags          SECCOMP_FILTER_FLAG_* for seccomp(2)
    rules          (action, names of system calls, comparisons); a rule applies when all of its
                   comparisons (argument, operator, value, second value) hold
    """

    default: int
    architectures: tuple[int, ...]
    flags: int
    rules: tuple[Rule, ...]


def profile(seccomp: records.Seccomp) -> Profile:
    """
    The profile of a configuration whose actions are known to be supported.

    Raises SpecError for an unknown architecture or flag, an errno where the action takes none or
    that does not fit, and for an argument that no system call has.
    """
    return Profile(
        default=_action(
            seccomp.defaultAction, seccomp.defaultErrnoRet, f"{seccomp.at}.defaultErrnoRet"
        ),
        architectures=tuple(
            _known(ARCHITECTURES, name, f"{seccomp.at}.architectures[{index}]")
            for index, name in enumerate(seccomp.architectures)
        ),
        flags=_flags(seccomp),
        rules=tuple(rule for given in seccomp.syscalls for rule in _rules(given)),
    )


def key(profile: Profile) -> bytes:
    """
    32 bytes that stand for the profile's program; equal profiles have equal keys.

    The flags are left out: they are given to seccomp(2) beside the program.
    """
    # The C module itself: hashlib costs 4 ms, most of it for OpenSSL.
    from _blake2 import blake2b

    text = repr((profile.default, profile.architectures, profile.rules))
    return blake2b(text.encode(), digest_size=32).digest()


def _known(table: dict[str, int], name: str, at: str) -> int:
    if name not in table:
        raise SpecError(f"is not one of {', '.join(table)}", at=at, value=name)
    return table[name]


def _flags(seccomp: records.Seccomp) -> int:
    if seccomp.flags is None:
        return _FLAGS_WHEN_ABSENT
    bits = 0
    for index, name in enumerate(seccomp.flags):
        bits |= _known(FLAGS, name, f"{seccomp.at}.flags[{index}]")
    return bits


def _action(name: str, number: int | None, at: str) -> int:
    """The action with its errno (or, for a tracer, its message); EPERM unless given."""
    largest = _LARGEST_ERRNO.get(name)
    if largest is None:
        if number is not None:
            raise SpecError(f"is set, but {name} returns no errno", at=at, value=str(number))
        return ACTIONS[name]
    if number is None:
        number = errno.EPERM
    if number > largest:
        raise SpecError(f"is more than {largest}", at=at, value=str(number))
    return ACTIONS[name] | number


def _rules(rule: records.SeccompRule) -> tuple[Rule, ...]:
    action = _action(rule.action, rule.errnoRet, f"{rule.at}.errnoRet")
    comparisons = tuple(_comparison(arg) for arg in rule.args)
    if len({arg.index for arg in rule.args}) == len(comparisons):
        return ((action, rule.names, comparisons),)
    # libseccomp takes one comparison of an argument in a rule. runc and crun then make each one a
    # rule of its own: the list, an "and" otherwise, becomes an "or".
    return tuple((action, rule.names, (comparison,)) for comparison in comparisons)


def _comparison(arg: records.SeccompArg) -> Comparison:
    if arg.index > 5:
        raise SpecError("is not between 0 and 5", at=f"{arg.at}.index", value=str(arg.index))
    return arg.index, OPERATORS[arg.op], arg.value, arg.valueTwo
