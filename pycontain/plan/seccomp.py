"""
`linux.seccomp` as numbers: what libseccomp and seccomp(2) take, computed without calling either.

Source: config-linux.md, Seccomp; seccomp(2); <linux/audit.h>; <seccomp.h> of libseccomp 2.6.
"""

from __future__ import annotations

import errno

from ..errors import SpecError
from ..kernel import const as c
from ..lean.record import Record
from ..spec.names import SECCOMP_ACTIONS as ACTIONS
from ..spec.names import SECCOMP_ARCHS as ARCHITECTURES
from ..spec.names import SECCOMP_FLAGS as FLAGS
from ..spec.names import SECCOMP_OPERATORS as OPERATORS
from ..spec.seccomp_rules import notifies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from ..spec import records

    Comparison: TypeAlias = tuple[int, int, int, int]
    Rule: TypeAlias = tuple[int, tuple[str, ...], tuple[Comparison, ...]]

# Actions that carry a number in their low 16 bits, and the largest one. libseccomp takes an errno
# below the kernel's MAX_ERRNO, which is 4095.
_LARGEST_ERRNO = {"SCMP_ACT_ERRNO": 4094, "SCMP_ACT_TRACE": 0xFFFF}

# Affects how a listener's notifications are waited for. Without SCMP_ACT_NOTIFY there is no
# listener, and the kernel rejects the flag alone with EINVAL.
_NEEDS_LISTENER = FLAGS["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]

# What runc and crun do when the profile has no list of flags (an empty list is honoured): the
# mitigation of CVE-2018-3639 slows every program down, and since 5.16 it is off for seccomp anyway.
_FLAGS_WHEN_ABSENT = FLAGS["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]


class Profile(Record):
    """
    A profile as numbers.

    default        the action for calls that no rule matches, as the filter returns it
    architectures  those filtered besides the native one, as libseccomp numbers them
    flags          SECCOMP_FILTER_FLAG_* for seccomp(2)
    rules          (action, names of system calls, comparisons); a rule applies when all of its
                   comparisons (argument, operator, value, second value) hold
    listener       the socket of the agent for SCMP_ACT_NOTIFY, "" for none
    metadata       what the agent is sent with the listener
    """

    default: int
    architectures: tuple[int, ...]
    flags: int
    rules: tuple[Rule, ...]
    listener: str = ""
    metadata: str = ""


def profile(seccomp: records.Seccomp) -> Profile:
    """
    The profile of a configuration whose actions have already been checked.

    Raises SpecError for an unknown architecture or flag, an errno that the action does not take or
    that is too large, and for an argument index that no system call has.
    """
    listens = notifies(seccomp)
    return Profile(
        default=_action(
            seccomp.defaultAction, seccomp.defaultErrnoRet, f"{seccomp.at}.defaultErrnoRet"
        ),
        architectures=tuple(
            _known(ARCHITECTURES, name, f"{seccomp.at}.architectures[{index}]")
            for index, name in enumerate(seccomp.architectures)
        ),
        flags=_flags(seccomp, listens),
        rules=tuple(rule for entry in seccomp.syscalls for rule in _rules(entry)),
        listener=(listens and seccomp.listenerPath) or "",
        metadata=seccomp.listenerMetadata or "",
    )


def key(profile: Profile) -> bytes:
    """
    32 bytes that identify the profile's program; equal profiles have equal keys.

    The flags are left out: they are passed to seccomp(2) beside the program.
    """
    # The C module directly: hashlib costs 4 ms, most of it for OpenSSL.
    from _blake2 import blake2b

    text = repr((profile.default, profile.architectures, profile.rules))
    return blake2b(text.encode(), digest_size=32).digest()


def _known(table: dict[str, int], name: str, at: str) -> int:
    if name not in table:
        raise SpecError(f"is not one of {', '.join(table)}", at=at, value=name)
    return table[name]


def _flags(seccomp: records.Seccomp, listens: bool) -> int:
    bits = _FLAGS_WHEN_ABSENT if seccomp.flags is None else 0
    for index, name in enumerate(seccomp.flags or ()):
        bits |= _known(FLAGS, name, f"{seccomp.at}.flags[{index}]")
    if not listens:
        return bits & ~_NEEDS_LISTENER
    if bits & c.SECCOMP_FILTER_FLAG_TSYNC:  # both return a value: seccomp(2), TSYNC_ESRCH
        bits |= c.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
    return bits | c.SECCOMP_FILTER_FLAG_NEW_LISTENER


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
    # libseccomp allows one comparison per argument in a rule. Given more, runc and crun make each
    # one a rule of its own: the list, otherwise an "and", becomes an "or".
    return tuple((action, rule.names, (comparison,)) for comparison in comparisons)


def _comparison(arg: records.SeccompArg) -> Comparison:
    if arg.index > 5:
        raise SpecError("is not between 0 and 5", at=f"{arg.at}.index", value=str(arg.index))
    return arg.index, OPERATORS[arg.op], arg.value, arg.valueTwo
