"""
The system calls that the default configuration allows.

Compared with the profile of containers-common, which Podman uses, and tried on the running kernel.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
from pathlib import Path

import pytest

from pycontain.kernel import seccomp
from pycontain.plan import seccomp as plan
from pycontain.spec import parse, records, system_calls
from pycontain.spec.default import CAPABILITIES
from pycontain.spec.names import CAPABILITIES as ALL
from tests.kernel.seccomp_profiles import (
    ALLOW,
    AUDIT,
    ERRNO,
    X32_BIT,
    X86,
    X86_64,
    name_of,
    number_of,
    verdict,
)
from tests.kernel.test_seccomp_model import interpret, model

if os.uname().machine != "x86_64":
    pytest.skip("system call numbers of x86-64 are used", allow_module_level=True)

THEIRS = Path("/usr/share/containers/seccomp.json")
# Newer than Debian 12's containers-common of 2022; its successors and Docker allow them.
NEWER = {"cachestat", "fchmodat2", "futex_waitv", "openat2"}
GRANTED = {
    "the default": CAPABILITIES,
    "none": (),
    "sockets": ("CAP_NET_RAW", "CAP_AUDIT_WRITE"),
    "administration": ("CAP_SYS_ADMIN",),
    "all": tuple(ALL),
}

NEW_NETWORK, NEW_USER, THREAD = 0x4000_0000, 0x1000_0000, 0x003D_0F00
VALUES = (0, 1, 2, 8, 9, 10, 16, 17, 38, 40, NEW_NETWORK, THREAD, 0x0400_0000, 0xFFFF_FFFF, 2**40)


def ours(capabilities: tuple[str, ...] = CAPABILITIES) -> plan.Profile:
    profile = system_calls.profile(capabilities)
    return plan.profile(parse.read(records.Seccomp, profile, "linux.seccomp"))


def theirs(capabilities: tuple[str, ...]) -> plan.Profile:
    """Their profile for these capabilities on x86-64, as Podman evaluates it."""
    config = json.loads(THEIRS.read_text())
    rules = [
        {**{key: rule[key] for key in ("names", "action")}, "args": rule["args"] or [],
         "errnoRet": rule.get("errnoRet")}
        for rule in config["syscalls"]
        if applies(rule["includes"], rule["excludes"], set(capabilities))
    ]  # fmt: skip
    profile = {"defaultAction": config["defaultAction"], "syscalls": rules}
    return plan.profile(parse.read(records.Seccomp, profile, "linux.seccomp"))


def applies(includes: dict, excludes: dict, capabilities: set[str]) -> bool:
    arches = includes.get("arches", ["amd64"])
    needed, unwanted = set(includes.get("caps", ())), set(excludes.get("caps", ()))
    return "amd64" in arches and needed <= capabilities and not unwanted & capabilities


def arguments(name: str) -> list[tuple[int, ...]]:
    """Combinations for the calls of which some profile looks at the arguments."""
    if name not in ("clone", "personality", "socket"):
        return [(0,) * 6]
    return [(*three, 0, 0, 0) for three in itertools.product(VALUES, (0, 1), VALUES)]


def decides(program: bytes, name: str, *args: int) -> int:
    padded = (*args, 0, 0, 0, 0, 0, 0)[:6]
    return interpret(program, X86_64, number_of(name, X86_64), padded)


@pytest.mark.parametrize("capabilities", GRANTED.values(), ids=GRANTED)
def test_nothing_is_allowed_that_podmans_profile_forbids(capabilities: tuple[str, ...]) -> None:
    if not THEIRS.exists():
        pytest.skip(f"{THEIRS} is missing: install golang-github-containers-common")
    program, policy = seccomp.to_bpf(ours(capabilities)), theirs(capabilities)
    worse = set()
    for name in filter(None, map(name_of, range(500))):
        for args in arguments(name):
            number = number_of(name, X86_64)
            if interpret(program, X86_64, number, args) != ALLOW:
                continue
            if model(policy, X86_64, number, args) != ALLOW:
                worse.add(name)
    assert worse <= NEWER


@pytest.mark.parametrize("capabilities", GRANTED.values(), ids=GRANTED)
def test_the_program_decides_as_the_table_says(capabilities: tuple[str, ...]) -> None:
    policy = ours(capabilities)
    program = seccomp.to_bpf(policy)
    for name in filter(None, map(name_of, range(500))):
        for args in arguments(name):
            number = number_of(name, X86_64)
            decided = interpret(program, X86_64, number, args)
            assert decided == model(policy, X86_64, number, args), (name, args)


def test_every_name_is_a_system_call() -> None:
    newest = {"cachestat", "fchmodat2", "futex_waitv", "process_mrelease"}
    names = {name for _, given, _ in ours(tuple(ALL)).rules for name in given}
    assert {name for name in names if number_of(name, X86_64) == -1} <= newest


def test_programs_of_other_architectures_are_killed() -> None:
    program = seccomp.to_bpf(ours())
    assert interpret(program, AUDIT[X86], 1, (0,) * 6) == 0
    assert interpret(program, X86_64, X32_BIT | 1, (0,) * 6) == 0


REFUSED = (
    "add_key bpf init_module io_uring_setup kexec_load keyctl mount perf_event_open pivot_root"
    " reboot setns swapon umount2 unshare userfaultfd"
)


@pytest.mark.parametrize("name", REFUSED.split())
def test_the_kernel_refuses_what_reaches_beyond_a_container(name: str) -> None:
    assert verdict(ours(), number_of(name, X86_64)) == errno.EPERM


@pytest.mark.parametrize("flag", [NEW_NETWORK, NEW_USER, 0x0200_0000])
def test_a_process_with_new_namespaces_is_refused(flag: int) -> None:
    program = seccomp.to_bpf(ours())
    assert decides(program, "clone", flag | 17) == ERRNO | errno.EPERM
    assert decides(program, "clone", THREAD) == ALLOW
    assert decides(program, "clone3") == ERRNO | errno.ENOSYS
    assert decides(seccomp.to_bpf(ours(("CAP_SYS_ADMIN",))), "clone", flag) == ALLOW


@pytest.mark.parametrize(
    ("family", "protocol", "capability", "without"),
    [(1, 0, "", True), (2, 6, "", True), (10, 17, "", True), (16, 0, "", True),
     (16, 9, "CAP_AUDIT_WRITE", False), (17, 0, "CAP_NET_RAW", False),
     (38, 0, "", False), (40, 0, "", False), (2**32 + 40, 0, "", False)],
)  # fmt: skip
def test_sockets_are_of_a_few_families(
    family: int, protocol: int, capability: str, without: bool
) -> None:
    allowed = decides(seccomp.to_bpf(ours()), "socket", family, 3, protocol) == ALLOW
    assert allowed == without
    if capability:
        program = seccomp.to_bpf(ours((capability,)))
        assert decides(program, "socket", family, 3, protocol) == ALLOW


def test_addresses_stay_randomized() -> None:
    no_randomization = 0x0004_0000
    program = seccomp.to_bpf(ours())
    assert decides(program, "personality", no_randomization) == ERRNO | errno.EPERM
    assert decides(program, "personality", 0xFFFF_FFFF) == ALLOW
