"""The conversion of `linux.seccomp` to numbers."""

from __future__ import annotations

import errno
import subprocess

import pytest

from pycontain.errors import SpecError
from pycontain.plan import seccomp
from pycontain.spec import parse, records

ERRNO, TRACE, ALLOW = 0x0005_0000, 0x7FF0_0000, 0x7FFF_0000


def profile(**given: object) -> seccomp.Profile:
    config = {"defaultAction": "SCMP_ACT_ERRNO", **given}
    return seccomp.profile(parse.read(records.Seccomp, config, "linux.seccomp"))


def rule(*names: str, action: str = "SCMP_ACT_ALLOW", **given: object) -> dict[str, object]:
    return {"names": list(names), "action": action, **given}


def arg(index: int, value: int, op: str = "SCMP_CMP_EQ", value_two: int = 0) -> dict[str, object]:
    return {"index": index, "value": value, "valueTwo": value_two, "op": op}


def test_an_errno_is_eperm_unless_given() -> None:
    assert profile().default == ERRNO | errno.EPERM
    assert profile(defaultErrnoRet=errno.ENOSYS).default == ERRNO | errno.ENOSYS
    given = profile(
        syscalls=[rule("read", action="SCMP_ACT_ERRNO", errnoRet=0), rule("write")]
    ).rules
    assert [action for action, _, _ in given] == [ERRNO, ALLOW]


def test_a_tracers_message_has_sixteen_bits_and_is_eperm_unless_given() -> None:
    assert profile(defaultAction="SCMP_ACT_TRACE").default == TRACE | errno.EPERM
    given = profile(defaultAction="SCMP_ACT_TRACE", defaultErrnoRet=0xFFFF)
    assert given.default == TRACE | 0xFFFF


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"defaultAction": "SCMP_ACT_KILL", "defaultErrnoRet": 1},
            "linux.seccomp.defaultErrnoRet = 1 is set, but SCMP_ACT_KILL returns no errno",
        ),
        (
            {"syscalls": [rule("read"), rule("write", errnoRet=2)]},
            "linux.seccomp.syscalls[1].errnoRet = 2 is set, but SCMP_ACT_ALLOW returns no errno",
        ),
        ({"defaultErrnoRet": 4095}, "linux.seccomp.defaultErrnoRet = 4095 is more than 4094"),
        (
            {"defaultAction": "SCMP_ACT_TRACE", "defaultErrnoRet": 65536},
            "linux.seccomp.defaultErrnoRet = 65536 is more than 65535",
        ),
        (
            {"syscalls": [rule("read", args=[arg(0, 1), arg(6, 1)])]},
            "linux.seccomp.syscalls[0].args[1].index = 6 is not between 0 and 5",
        ),
        (
            {"architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_VAX"]},
            "linux.seccomp.architectures[1] = SCMP_ARCH_VAX is not one of SCMP_ARCH_X86, ",
        ),
        (
            {"flags": ["SECCOMP_FILTER_FLAG_NEW_LISTENER"]},
            "linux.seccomp.flags[0] = SECCOMP_FILTER_FLAG_NEW_LISTENER is not one of SECCOMP_",
        ),
    ],
)
def test_an_invalid_value_of_a_seccomp_profile_is_refused_with_its_path(
    given: dict[str, object], line: str
) -> None:
    with pytest.raises(SpecError) as caught:
        profile(**given)
    assert str(caught.value).startswith(line)


def test_absent_flags_allow_speculation_and_an_empty_list_does_not() -> None:
    assert profile().flags == 4
    assert profile(flags=None).flags == 4
    assert profile(flags=[]).flags == 0
    assert profile(flags=["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"]).flags == 3
    assert profile(flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]).flags == 0


def test_comparisons_of_several_arguments_stay_one_rule() -> None:
    given = profile(syscalls=[rule("clone", "clone3", args=[arg(0, 7), arg(3, 8, "SCMP_CMP_NE")])])
    assert given.rules == ((ALLOW, ("clone", "clone3"), ((0, 4, 7, 0), (3, 1, 8, 0))),)


def test_comparisons_of_the_same_argument_become_rules_of_their_own() -> None:
    args = [arg(0, 7), arg(1, 9), arg(0, 240, "SCMP_CMP_MASKED_EQ", 16)]
    assert profile(syscalls=[rule("personality", args=args)]).rules == (
        (ALLOW, ("personality",), ((0, 4, 7, 0),)),
        (ALLOW, ("personality",), ((1, 4, 9, 0),)),
        (ALLOW, ("personality",), ((0, 7, 240, 16),)),
    )


def test_the_key_of_a_profile_changes_only_with_its_program() -> None:
    base = profile(syscalls=[rule("read")])
    assert seccomp.key(base) == seccomp.key(profile(syscalls=[rule("read")]))
    assert seccomp.key(base) == seccomp.key(profile(syscalls=[rule("read")], flags=[]))
    others = [
        profile(syscalls=[rule("read")], defaultErrnoRet=2),
        profile(syscalls=[rule("read")], architectures=["SCMP_ARCH_X86"]),
        profile(syscalls=[rule("write")]),
        profile(syscalls=[rule("read", action="SCMP_ACT_LOG")]),
        profile(syscalls=[rule("read", args=[arg(0, 1)])]),
        profile(syscalls=[rule("read", args=[arg(0, 1, "SCMP_CMP_NE")])]),
    ]
    assert len({seccomp.key(other) for other in [base, *others]}) == 1 + len(others)


def test_every_number_of_seccomp_is_that_of_the_c_headers() -> None:
    # <seccomp.h> before 2.6 lacks some architectures, which <linux/audit.h> has by other names.
    audit = {
        "SCMP_ARCH_LOONGARCH64": "AUDIT_ARCH_LOONGARCH64",
        "SCMP_ARCH_M68K": "AUDIT_ARCH_M68K",
        "SCMP_ARCH_SH": "AUDIT_ARCH_SHEL",
        "SCMP_ARCH_SHEB": "AUDIT_ARCH_SH",
    }
    ours = {**seccomp.ARCHITECTURES, **seccomp.ACTIONS, **seccomp.OPERATORS, **seccomp.FLAGS}
    del ours["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]
    spelled = {name: audit.get(name, name) for name in ours}
    spelled |= {name: f"{name}(0)" for name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")}
    assert len(ours) == 23 + 9 + 7 + 3
    source = "\n".join(
        [
            "#include <seccomp.h>",
            "#include <linux/seccomp.h>",
            "#include <linux/audit.h>",
            *(
                f'_Static_assert((unsigned int)({text}) == {ours[name]}u, "{name}");'
                for name, text in spelled.items()
            ),
            "",
        ]
    )
    compiler = ["cc", "-fsyntax-only", "-x", "c", "-"]
    try:
        done = subprocess.run(compiler, input=source, text=True, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    if "seccomp.h" in done.stderr and "No such file" in done.stderr:
        pytest.skip("no C headers of libseccomp")
    assert done.stderr == ""
    assert done.returncode == 0
