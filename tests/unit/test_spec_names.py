"""The tables of names have the numbers of the C headers."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from pycontain.errors import UsageError
from pycontain.spec import names

# Names that differ in the headers, and names that older headers lack
IN_C = {
    "SCHED_OTHER": "SCHED_NORMAL",
    "LINUX": "PER_LINUX",
    "LINUX32": "PER_LINUX32",
    "SCMP_ACT_ERRNO": "SCMP_ACT_ERRNO(0)",
    "SCMP_ACT_TRACE": "SCMP_ACT_TRACE(0)",
}
NEWER = {
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",  # Linux 5.19
    "SCMP_ARCH_LOONGARCH64",  # libseccomp 2.6, as the next three
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
}


def numbers_in_c(wanted: Iterable[str], headers: list[str], folder: Path) -> dict[str, int]:
    """The values of these names in C; newer ones that the headers lack are left out."""
    if shutil.which("cc") is None:
        pytest.skip("a C compiler (cc) is missing")
    missing = [header for header in headers if not Path("/usr/include", header).exists()]
    if missing:
        pytest.skip(f"the header {missing[0]} is missing")
    lines = [f"#include <{header}>" for header in ("stdio.h", *headers)] + ["int main(void) {"]
    for name in wanted:
        line = f'printf("{name} %lld\\n", (long long)({IN_C.get(name, name)}));'
        lines += [f"#ifdef {name}", line, "#endif"] if name in NEWER else [line]
    source, program = folder / "numbers.c", folder / "numbers"
    source.write_text("\n".join([*lines, "}", ""]))
    subprocess.run(["cc", "-o", program, source], check=True)
    output = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return {name: int(number) for name, number in map(str.split, output.splitlines())}


def assert_same(table: dict[str, int], found: dict[str, int]) -> None:
    assert found == {name: table[name] for name in found}
    assert set(table) - set(found) <= NEWER


def test_names_have_the_numbers_of_the_kernel_headers(tmp_path: Path) -> None:
    table = {
        **names.CAPABILITIES,
        **names.SCHEDULER_POLICIES,
        **names.SCHEDULER_FLAGS,
        **names.IO_CLASSES,
        **names.PERSONALITIES,
        **names.SECCOMP_FLAGS,
    }
    del table["SCHED_ISO"]  # a comment in the header
    headers = ["capability", "sched", "ioprio", "personality", "seccomp"]
    assert_same(table, numbers_in_c(table, [f"linux/{name}.h" for name in headers], tmp_path))


def test_seccomp_has_the_numbers_of_libseccomp(tmp_path: Path) -> None:
    table = {**names.SECCOMP_ARCHS, **names.SECCOMP_ACTIONS, **names.SECCOMP_OPERATORS}
    assert_same(table, numbers_in_c(table, ["seccomp.h"], tmp_path))


def test_limits_have_the_numbers_of_the_resource_module() -> None:
    theirs = {name: getattr(resource, name) for name in names.RLIMITS if hasattr(resource, name)}
    assert theirs == {name: names.RLIMITS[name] for name in theirs}
    assert set(names.RLIMITS) - set(theirs) == {"RLIMIT_LOCKS"}
    assert sorted(names.RLIMITS.values()) == list(range(16))


def test_there_are_41_capabilities_and_the_kernel_knows_as_many_or_more() -> None:
    assert len(names.CAPABILITIES) == 41
    with open("/proc/sys/kernel/cap_last_cap") as file:
        assert max(names.CAPABILITIES.values()) <= int(file.read())


def test_signals_have_the_numbers_of_this_system() -> None:
    spelled = (name for name in dir(signal) if name.startswith("SIG") and name[3] not in "_R")
    assert {name[3:]: getattr(signal, name) for name in spelled} == names.SIGNALS
    assert (names.SIGRTMIN, names.SIGRTMAX) == (signal.SIGRTMIN, signal.SIGRTMAX)


@pytest.mark.parametrize("number", [*range(1, 32), *range(34, 65)])
def test_every_signal_can_be_given_in_every_spelling(number) -> None:
    assert names.signal_number(str(number)) == number
    spellings = [name for name, value in names.SIGNALS.items() if value == number]
    if number >= names.SIGRTMIN:
        spellings = [f"RTMIN+{number - names.SIGRTMIN}", f"RTMAX-{names.SIGRTMAX - number}"]
    assert spellings
    for name in spellings:
        assert names.signal_number(name) == number
        assert names.signal_number(f"SIG{name}") == number
        assert names.signal_number(f"sig{name.lower()}") == number


@pytest.mark.parametrize(("text", "number"), [("RTMIN", 34), ("SIGRTMAX", 64), ("0", 0)])
def test_the_ends_of_the_range_are_signals(text, number) -> None:
    assert names.signal_number(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "SIG", "TERMINATE", "-1", "65", "1.5", "1e1", " 9", "RTMIN-1", "RTMIN+31", "RTMAX+1",
     "RTMAX-31", "RTMIN+", "RTMIN+x", "RTMIN3", "٣", "²", "9" * 5000, "SIGSIGTERM", "\n"],
)  # fmt: skip
def test_an_invalid_signal_is_a_usage_error(text) -> None:
    with pytest.raises(UsageError) as caught:
        names.signal_number(text)
    assert "is not a signal; give a name such as TERM" in str(caught.value)
    assert "\n" not in str(caught.value)
