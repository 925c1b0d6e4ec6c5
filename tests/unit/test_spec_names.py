"""The tables of names have the numbers of the C headers."""

from __future__ import annotations

import shutil
import signal
import subprocess

import pytest

from pycontain.errors import UsageError
from pycontain.spec import names

HEADERS = """
#include <stdio.h>
#include <sys/resource.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/personality.h>
#include <linux/seccomp.h>
#include <linux/sched.h>
#define SCHED_OTHER SCHED_NORMAL
"""


def numbers_in_c(constants: list[str], headers: str, folder) -> dict[str, int]:
    """What a C compiler makes of these names; those that its headers lack are left out."""
    if shutil.which("cc") is None:
        pytest.skip("a C compiler (cc) is missing")
    lines = [
        f'#ifdef {name}\nprintf("{name} %lld\\n", (long long)({name}));\n#endif'
        for name in constants
    ]
    source = folder / "numbers.c"
    source.write_text(headers + "int main(void) {\n" + "\n".join(lines) + "\nreturn 0; }\n")
    program = folder / "numbers"
    subprocess.run(["cc", "-o", program, source], check=True)
    output = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return {name: int(number) for name, number in map(str.split, output.splitlines())}


def test_names_have_the_numbers_of_the_kernel_headers(tmp_path):
    tables = {
        **names.CAPABILITIES,
        **names.SCHEDULER_FLAGS,
        **{name: names.SCHEDULER_POLICIES[name] for name in names.SCHEDULER_POLICIES},
        **names.SECCOMP_FLAGS,
    }
    found = numbers_in_c(list(tables), HEADERS, tmp_path)
    assert found == {name: tables[name] for name in found}
    assert set(tables) - set(found) <= {
        "SCHED_ISO",  # a comment in the header
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",  # of Linux 5.19
    }


def test_limits_have_the_numbers_of_the_resource_module():
    import resource

    theirs = {name: getattr(resource, name) for name in names.RLIMITS if hasattr(resource, name)}
    assert theirs == {name: names.RLIMITS[name] for name in theirs}
    assert set(names.RLIMITS) - set(theirs) == {"RLIMIT_LOCKS"}
    assert sorted(names.RLIMITS.values()) == list(range(16))


def test_seccomp_has_the_numbers_of_libseccomp(tmp_path):
    header = "#include <stdio.h>\n#include <seccomp.h>\n"
    tables = {**names.SECCOMP_ARCHS, **names.SECCOMP_OPERATORS}
    tables |= {name: number for name, number in names.SECCOMP_ACTIONS.items()}
    compiled = subprocess.run(
        ["cc", "-fsyntax-only", "-xc", "-"], input=header.encode(), stderr=subprocess.DEVNULL
    )
    if compiled.returncode:
        pytest.skip("the header of libseccomp (seccomp.h) is missing")
    named = [name for name in tables if name not in names.SECCOMP_OPERATORS]
    found = numbers_in_c(
        [name for name in named if name not in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")],
        header,
        tmp_path,
    )
    assert found == {name: tables[name] for name in found}
    assert len(found) >= 25


def test_there_are_41_capabilities_and_the_kernel_knows_as_many_or_more():
    assert len(names.CAPABILITIES) == 41
    with open("/proc/sys/kernel/cap_last_cap") as file:
        assert max(names.CAPABILITIES.values()) <= int(file.read())


def test_signals_have_the_numbers_of_this_system():
    spelled = (name for name in dir(signal) if name.startswith("SIG") and name[3] not in "_R")
    assert {name[3:]: getattr(signal, name) for name in spelled} == names.SIGNALS
    assert (names.SIGRTMIN, names.SIGRTMAX) == (signal.SIGRTMIN, signal.SIGRTMAX)


@pytest.mark.parametrize("number", [*range(1, 32), *range(34, 65)])
def test_every_signal_can_be_given_in_every_spelling(number):
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
def test_the_ends_of_the_range_are_signals(text, number):
    assert names.signal_number(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "SIG", "TERMINATE", "-1", "65", "1.5", "1e1", " 9", "RTMIN-1", "RTMIN+31", "RTMAX+1",
     "RTMAX-31", "RTMIN+", "RTMIN+x", "RTMIN3", "٣", "²", "9" * 5000, "SIGSIGTERM", "\n"],
)  # fmt: skip
def test_what_is_no_signal_is_a_usage_error(text):
    with pytest.raises(UsageError) as caught:
        names.signal_number(text)
    assert "is not a signal; give a name such as TERM" in str(caught.value)
    assert "\n" not in str(caught.value)
