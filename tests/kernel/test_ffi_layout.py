"""The binding against the system's C headers: the generated file, each structure, each number."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from pycontain.kernel import const, ffi_source
from pycontain.kernel._ffi import ffi

# No program can include all of them: libc and the kernel declare some things twice.
HEADERS = (
    (
        "linux/mount.h",
        "linux/openat2.h",
        "linux/sched.h",
        "linux/sched/types.h",
        "linux/fcntl.h",
        "linux/securebits.h",
    ),
    ("linux/bpf.h", "linux/filter.h", "linux/seccomp.h", "linux/capability.h", "linux/magic.h"),
    ("linux/prctl.h", "linux/keyctl.h", "linux/close_range.h", "linux/audit.h", "linux/nsfs.h"),
    ("sys/syscall.h", "sys/socket.h", "sys/mount.h", "sys/ioctl.h", "sys/resource.h", "net/if.h"),
    ("fcntl.h", "linux/sockios.h", "sys/time.h", "sched.h", "signal.h", "sys/wait.h", "errno.h"),
    ("seccomp.h",),
    ("linux/stat.h",),
)

# Constants that have another name in C, or are composed there.
IN_C = {
    "LINUX_CAPABILITY_VERSION_3": "_LINUX_CAPABILITY_VERSION_3",
    "BPF_LD_W_ABS": "BPF_LD | BPF_W | BPF_ABS",
    "BPF_JA": "BPF_JMP | BPF_JA",
    "BPF_JEQ_K": "BPF_JMP | BPF_JEQ | BPF_K",
    "BPF_JGT_K": "BPF_JMP | BPF_JGT | BPF_K",
    "BPF_JSET_K": "BPF_JMP | BPF_JSET | BPF_K",
    "BPF_RET_K": "BPF_RET | BPF_K",
}

# Declared only in part: the calls that use them also take the size.
PREFIXES = {"union bpf_attr", "struct bpf_prog_info", "struct sched_attr"}


def compiled(headers: tuple[str, ...], expressions: list[str], directory: Path) -> dict[str, int]:
    """The values of those expressions that these headers know."""
    includes = "".join(f"#include <{header}>\n" for header in headers)
    start = f"#define _GNU_SOURCE\n#include <stdio.h>\n#include <stddef.h>\n{includes}"
    wrong = _unknown(start, expressions, directory)
    known = [expression for expression in expressions if expression not in wrong]
    calls = "".join(f'printf("%lld\\n", f{number}());\n' for number in range(len(known)))
    _gcc(
        f"{start}{_functions(known)}int main(void) {{\n{calls}return 0;\n}}\n", directory
    ).check_returncode()
    output = subprocess.run([directory / "program"], capture_output=True, text=True, check=True)
    return dict(zip(known, map(int, output.stdout.split()), strict=True))


def _functions(expressions: list[str]) -> str:
    """Each in a function and on a line of its own, so that gcc reports which it does not know."""
    return "".join(
        f"long long f{number}(void) {{ return (long long)({expression}); }}\n"
        for number, expression in enumerate(expressions)
    )


def _unknown(start: str, expressions: list[str], directory: Path) -> set[str]:
    stderr = _gcc(start + _functions(expressions), directory, "-fsyntax-only").stderr
    first = start.count("\n") + 1
    lines = [int(line) - first for line in re.findall(r"program\.c:(\d+):\d+: error", stderr)]
    return {expressions[line] for line in lines if 0 <= line < len(expressions)}


def _gcc(source: str, directory: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    (directory / "program.c").write_text(source)
    command = ["gcc", "-w", "-fmax-errors=0", *flags, "-o", "program", "program.c"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def in_c(expressions: list[str], directory: Path) -> dict[str, int]:
    """The values of these C expressions, each by the first headers that know it."""
    values: dict[str, int] = {}
    for headers in HEADERS:
        left = [expression for expression in expressions if expression not in values]
        if left:
            values |= compiled(headers, left, directory)
    return values


def fields(name: str, inside: str = "") -> Iterator[tuple[str, int, int]]:
    """(path, offset, size) of each field of a type of the binding, in bytes."""
    kind = ffi.typeof(name) if isinstance(name, str) else name
    for field, details in kind.fields or ():
        if field.startswith("padding"):
            continue
        path = f"{inside}{field}"
        yield path, details.offset, ffi.sizeof(details.type)
        if details.type.kind == "struct":
            for inner, offset, size in fields(details.type, f"{path}."):
                yield inner, details.offset + offset, size


@cache
def layouts() -> dict[str, int]:
    """All sizes and offsets in the binding, as C expressions with our values."""
    _, structures, unions = ffi.list_types()
    ours: dict[str, int] = {}
    for name in [f"struct {s}" for s in structures] + [f"union {u}" for u in unions]:
        if name not in PREFIXES:
            ours[f"sizeof({name})"] = ffi.sizeof(name)
        for path, offset, size in fields(name):
            ours[f"offsetof({name}, {path})"] = offset
            if path not in ("info", "query"):  # of bpf_attr: declared in part
                ours[f"sizeof((({name} *)0)->{path})"] = size
    return ours


def numbers() -> dict[str, int]:
    """The constants of const.py, by their C expressions."""
    return {
        IN_C.get(name, name): value
        for name, value in vars(const).items()
        if isinstance(value, int) and not name.startswith("_")
    }


def test_the_checked_in_binding_is_what_its_source_generates(tmp_path: Path) -> None:
    made = tmp_path / "_ffi.py"
    ffi_source.generate(str(made))
    there = Path(ffi_source.__file__).with_name("_ffi.py")
    assert made.read_bytes() == there.read_bytes(), "run python -m pycontain.kernel.ffi_source"


@pytest.mark.needs_cc
def test_every_structure_is_laid_out_as_in_c(tmp_path: Path) -> None:
    ours = layouts()
    assert len(ours) > 50
    assert in_c(list(ours), tmp_path) == ours


@pytest.mark.needs_cc
def test_every_number_of_the_kernel_is_that_of_its_header(tmp_path: Path) -> None:
    ours = numbers()
    assert len(ours) > 100
    assert in_c(list(ours), tmp_path) == ours


@pytest.mark.needs_cc
def test_system_call_numbers_of_other_architectures_are_the_generic_ones(tmp_path: Path) -> None:
    ours = {f"__NR_{name}": number for name, number in const._OLDER["aarch64"].items()}
    assert compiled(("asm-generic/unistd.h",), list(ours), tmp_path) == ours


@pytest.mark.needs_cc
def test_a_number_without_a_header_has_no_value(tmp_path: Path) -> None:
    assert in_c(["sizeof(struct open_how)", "RESOLVE_BENEATH"], tmp_path) == {
        "sizeof(struct open_how)": 24,
        "RESOLVE_BENEATH": 8,
    }
    assert in_c(["offsetof(struct open_how, nonsense)", "NONSENSE"], tmp_path) == {}
