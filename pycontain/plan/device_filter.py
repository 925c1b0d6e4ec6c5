"""
The device filter of a cgroup: `linux.resources.devices` as an eBPF program.

cgroup v2 has no devices controller; instead the kernel runs a program at each open(2) and mknod(2)
of a device, and fails with EPERM if that returns 0 (4.15). The program is a chain of blocks, the
last rule first. Register 3 holds the accesses that no rule has decided yet:

    r2 = kind    r3 = access       r4 = major    r5 = minor
    for each rule:  r6 = (r2 ^ kind) | (r4 ^ major) | (r5 ^ minor); if r6 != 0: skip
                    allow: take its accesses out of r3; if none is left: return 1
                    deny:  if one of its accesses is in r3: return 0
    return 0

So each access is decided by the last rule that covers it; an access that no rule covers is denied.
The three numbers share one branch because the kernel's verifier follows every branch: with three,
its work grows with the square of the number of rules (100 took 26 ms, 900 exceeded its limit).

runc has the same default but matches a request as a whole: there, a rule that denies writing does
not apply to an open for reading and writing.

Source: config-linux.md, Allowed Device list; <linux/bpf.h>, struct bpf_cgroup_dev_ctx; the
instruction set in the kernel's bpf/standardization.
"""

from __future__ import annotations

from ..errors import SpecError
from ..kernel import const as c
from ..spec.records import DeviceRule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_ANY = (None, -1)


def _default(kind: str, major: int, minor: int, access: str = "rwm") -> DeviceRule:
    at = "the default devices"
    return DeviceRule(at=at, allow=True, type=kind, major=major, minor=minor, access=access)


# What runc allows every container, after its own rules: the devices that the specification puts
# into each container, its terminals, and creating any node; opening it is a separate decision.
DEFAULT_RULES = (
    _default("c", -1, -1, "m"),
    _default("b", -1, -1, "m"),
    _default("c", 1, 3),  # null
    _default("c", 1, 5),  # zero
    _default("c", 1, 7),  # full
    _default("c", 1, 8),  # random
    _default("c", 1, 9),  # urandom
    _default("c", 5, 0),  # tty
    _default("c", 5, 2),  # ptmx
    _default("c", 136, -1),  # pts/*
)


# --- the program -------------------------------------------------------------------------------

# registers; 0 is the result, 1 the context
_KIND, _ACCESS, _MAJOR, _MINOR, _DIFFERENCE, _SCRATCH = 2, 3, 4, 5, 6, 7
_KINDS = {"c": c.BPF_DEVCG_DEV_CHAR, "b": c.BPF_DEVCG_DEV_BLOCK}
_ACCESSES = {"r": c.BPF_DEVCG_ACC_READ, "w": c.BPF_DEVCG_ACC_WRITE, "m": c.BPF_DEVCG_ACC_MKNOD}
_ALL_ACCESSES = sum(_ACCESSES.values())


def program(rules: Sequence[DeviceRule]) -> bytes:
    """
    The eBPF program of these rules, in order: an array of struct bpf_insn.

    The caller must append DEFAULT_RULES. Raises SpecError for a rule without a valid access.
    """
    code = _read_context()
    for rule in reversed(rules):
        code += _block(rule)
        if _is_total(rule):
            break  # earlier rules cannot have an effect
    code += _return(0)
    return b"".join(word.to_bytes(8, "little") for word in code)


def _read_context() -> list[int]:
    """Three numbers of 32 bits: access << 16 | kind, major, minor."""
    return [
        _load(_KIND, 0),
        _and(_KIND, 0xFFFF),
        _load(_ACCESS, 0),
        _shift_right(_ACCESS, 16),
        _load(_MAJOR, 4),
        _load(_MINOR, 8),
    ]


def _block(rule: DeviceRule) -> list[int]:
    accesses = _accesses(rule)
    if rule.allow:
        action = [_and(_ACCESS, ~accesses), _jump_if(_ACCESS, "!=", 0, 2), *_return(1)]
    else:
        action = [_jump_if(_ACCESS, "&", accesses, 1), _jump(2), *_return(0)]
    kind = _KINDS.get(rule.type or "a")
    major, minor = _number(rule, "major"), _number(rule, "minor")
    numbers = ((_KIND, kind), (_MAJOR, major), (_MINOR, minor))
    comparison = [
        instruction
        for register, value in numbers
        if value is not None
        for instruction in (
            _copy(_SCRATCH, register),
            _xor(_SCRATCH, value),
            _or(_DIFFERENCE, _SCRATCH),
        )
    ]
    if not comparison:
        return action
    return [_set(_DIFFERENCE, 0), *comparison, _jump_if(_DIFFERENCE, "!=", 0, len(action)), *action]


def _accesses(rule: DeviceRule) -> int:
    access = "rwm" if rule.access is None else rule.access
    letters = set(access)
    if not letters or letters - set(_ACCESSES):
        raise SpecError(
            "has other letters than r, w and m", at=f"{rule.at}.access", value=repr(access)
        )
    return sum(_ACCESSES[letter] for letter in letters)


def _number(rule: DeviceRule, field: str) -> int | None:
    """A major or minor number; None for any."""
    value = rule.major if field == "major" else rule.minor
    if value in _ANY:
        return None
    if not 0 <= value < 2**32:
        raise SpecError("is not a device number", at=f"{rule.at}.{field}", value=str(value))
    return value


def _is_total(rule: DeviceRule) -> bool:
    anything = rule.type in (None, "a") and rule.major in _ANY and rule.minor in _ANY
    return anything and _accesses(rule) == _ALL_ACCESSES


# --- instructions ------------------------------------------------------------------------------

_TESTS = {"!=": 0x56, "&": 0x46}  # BPF_JMP32 | BPF_K and BPF_JNE, BPF_JSET (5.1)


def _instruction(code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> int:
    """A struct bpf_insn as a number: code, two registers of 4 bits, offset of 16, value of 32."""
    return code | to << 8 | source << 12 | offset << 16 | (value & 0xFFFF_FFFF) << 32


def _load(to: int, offset: int) -> int:
    return _instruction(0x61, to, 1, offset)  # BPF_LDX | BPF_MEM | BPF_W


def _and(to: int, value: int) -> int:
    return _instruction(0x54, to, value=value)  # BPF_ALU | BPF_AND | BPF_K


def _xor(to: int, value: int) -> int:
    return _instruction(0xA4, to, value=value)  # BPF_ALU | BPF_XOR | BPF_K


def _or(to: int, source: int) -> int:
    return _instruction(0x4C, to, source)  # BPF_ALU | BPF_OR | BPF_X


def _copy(to: int, source: int) -> int:
    return _instruction(0xBC, to, source)  # BPF_ALU | BPF_MOV | BPF_X


def _set(to: int, value: int) -> int:
    return _instruction(0xB7, to, value=value)  # BPF_ALU64 | BPF_MOV | BPF_K


def _shift_right(to: int, bits: int) -> int:
    return _instruction(0x74, to, value=bits)  # BPF_ALU | BPF_RSH | BPF_K


def _jump_if(register: int, test: str, value: int, skip: int) -> int:
    """Skip this many instructions if the test of a register against a value holds."""
    return _instruction(_TESTS[test], register, offset=skip, value=value)


def _jump(skip: int) -> int:
    return _instruction(0x05, offset=skip)  # BPF_JMP | BPF_JA


def _return(value: int) -> list[int]:
    return [_set(0, value), _instruction(0x95)]  # BPF_JMP | BPF_EXIT
