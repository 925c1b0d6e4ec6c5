from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pycontain.errors import SpecError
from pycontain.plan.device_filter import DEFAULT_RULES, program
from pycontain.spec.records import DeviceRule

READ, WRITE, MKNOD = 2, 4, 1
LETTERS = {"r": READ, "w": WRITE, "m": MKNOD}
KINDS = {"b": 1, "c": 2}


def rule(
    allow: bool,
    kind: str | None = None,
    major: int | None = None,
    minor: int | None = None,
    access: str | None = "rwm",
) -> DeviceRule:
    return DeviceRule(at="r", allow=allow, type=kind, major=major, minor=minor, access=access)


def run(code: bytes, kind: str, major: int, minor: int, access: int) -> int:
    """What the program returns; interprets the few eBPF instructions that device filters use."""
    context = struct.pack("=III", access << 16 | KINDS[kind], major, minor)
    registers = [0] * 11
    at = 0
    while True:
        opcode, pair, offset, value = struct.unpack_from("<BBhI", code, at * 8)
        to, at = pair & 15, at + 1
        match opcode:
            case 0x61:
                assert pair >> 4 == 1, "only the context is read"
                (registers[to],) = struct.unpack_from("=I", context, offset)
            case 0xBC:
                registers[to] = registers[pair >> 4]
            case 0xA4:
                registers[to] ^= value
            case 0x4C:
                registers[to] |= registers[pair >> 4]
            case 0x54:
                registers[to] &= value
            case 0x74:
                registers[to] = (registers[to] & 0xFFFF_FFFF) >> value
            case 0xB7:
                registers[to] = value
            case 0x56:
                at += offset if registers[to] & 0xFFFF_FFFF != value else 0
            case 0x46:
                at += offset if registers[to] & 0xFFFF_FFFF & value else 0
            case 0x05:
                at += offset
            case 0x95:
                return registers[0]
            case _:
                raise AssertionError(f"opcode {opcode:#x} at {at - 1}")


def model(rules: list[DeviceRule], kind: str, major: int, minor: int, access: int) -> int:
    """Each requested access is decided by the last rule that applies to it."""

    def granted(letter: str) -> bool:
        verdict = False
        for each in rules:
            accesses = "rwm" if each.access is None else each.access
            applies = each.type in (None, "a", kind) and letter in accesses
            numbers = ((each.major, major), (each.minor, minor))
            if applies and all(wanted in (None, -1, number) for wanted, number in numbers):
                verdict = each.allow
        return verdict

    return int(all(granted(letter) for letter, bit in LETTERS.items() if access & bit))


numbers = st.sampled_from([0, 1, 2, 2**31, 2**32 - 1])
rules_of_devices = st.builds(
    rule,
    st.booleans(),
    st.sampled_from([None, "a", "b", "c"]),
    st.sampled_from([None, -1]) | numbers,
    st.sampled_from([None, -1]) | numbers,
    st.sampled_from([None, "r", "w", "m", "rw", "rwm", "wr", "rm"]),
)


@given(
    st.lists(rules_of_devices, max_size=8),
    st.sampled_from("bc"),
    numbers,
    numbers,
    st.integers(1, 7),
)
@example([rule(True), rule(False, "c", 1, 3, "w")], "c", 1, 3, READ | WRITE)
def test_the_device_filter_decides_according_to_the_rules(
    rules: list[DeviceRule], kind: str, major: int, minor: int, access: int
) -> None:
    got = run(program(rules), kind, major, minor, access)
    assert got == model(rules, kind, major, minor, access)


def test_no_device_is_allowed_by_default() -> None:
    assert run(program([]), "c", 1, 3, READ) == 0


def test_a_later_rule_can_exclude_one_device_of_many() -> None:
    code = program([rule(True, "c", 1), rule(False, "c", 1, 5)])
    assert run(code, "c", 1, 3, READ | WRITE) == 1
    assert run(code, "c", 1, 5, READ | WRITE) == 0


def test_rules_before_a_rule_for_everything_are_left_out() -> None:
    before = [rule(True, "c", 1, minor) for minor in range(100)]
    assert program([*before, rule(False)]) == program([rule(False)])


def test_default_devices_can_be_used_and_any_can_be_created_but_not_opened() -> None:
    code = program([rule(False), *DEFAULT_RULES])
    usable = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, 0), (136, 77)]
    assert all(run(code, "c", *numbers, READ | WRITE) for numbers in usable)
    assert not any(run(code, "c", *numbers, READ) for numbers in [(1, 1), (5, 1), (10, 200)])
    assert run(code, "b", 8, 0, MKNOD) == 1
    assert run(code, "b", 8, 0, READ) == 0


def test_a_rule_without_access_applies_to_all_of_them() -> None:
    assert program([rule(True, "c", 1, 3, None)]) == program([rule(True, "c", 1, 3, "rwm")])
    assert program([rule(True), rule(False, access=None)]) == program([rule(False)])


def test_requesting_no_access_needs_some_rule_that_allows_one() -> None:
    """Execution requests none (the kernel's devcgroup_inode_permission)."""
    assert run(program([rule(True, "c", 1, 3, "r")]), "c", 1, 3, 0) == 1
    assert run(program([rule(True, "c", 1, 3, "r")]), "c", 1, 5, 0) == 0


def test_many_rules_do_not_need_longer_jumps() -> None:
    rules = [rule(bool(number % 2), "c", 1, number) for number in range(10_000)]
    code = program(rules)
    assert run(code, "c", 1, 1, READ) == 1
    assert run(code, "c", 1, 2, READ) == 0


@pytest.mark.parametrize(
    ("wrong", "at"),
    [
        (rule(True, access=""), "r.access"),
        (rule(True, access="rx"), "r.access"),
        (rule(True, "c", -2), "r.major"),
        (rule(True, "c", 1, 2**32), "r.minor"),
    ],
    ids=str,
)
def test_an_invalid_device_rule_is_refused(wrong: DeviceRule, at: str) -> None:
    with pytest.raises(SpecError) as caught:
        program([wrong])
    assert caught.value.fault.at == at
