"""The declarations of the KVM binding agree with the C headers of this system."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from pycontain.vm import abi, caps, ffi_source
from pycontain.vm._ffi import ffi

HEADERS = ["stddef.h", "stdio.h", "signal.h", "time.h", "linux/kvm.h"]
# ours -> theirs, where C spells a name otherwise
FIELDS = {
    "thread_id": "_sigev_un._tid",
    "sigev_value": "sigev_value",
    "interval_s": "it_interval.tv_sec",
    "interval_ns": "it_interval.tv_nsec",
    "value_s": "it_value.tv_sec",
    "value_ns": "it_value.tv_nsec",
}
PADDING = re.compile(r"pad(ding)?\d*$|^reserved$|^events$")


def compile_and_run(lines: list[str], tmp_path) -> list[int]:
    if not shutil.which("gcc"):
        pytest.skip("needs gcc")
    body = "\n".join(f'printf("%llu\\n", (unsigned long long)({line}));' for line in lines)
    includes = "\n".join(f"#include <{header}>" for header in HEADERS)
    source = tmp_path / "layout.c"
    source.write_text(f"{includes}\nint main(void) {{ {body} return 0; }}")
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-o", tmp_path / "layout", source], check=True)
    answer = subprocess.run([tmp_path / "layout"], check=True, capture_output=True, text=True)
    return [int(line) for line in answer.stdout.split()]


def structures() -> list[str]:
    return re.findall(r"^struct (\w+) \{", ffi_source.LIBC + ffi_source.KVM, re.MULTILINE)


def fields(kind, prefix: str = "", base: int = 0):
    """Each named field with its offset, those of nested structures too."""
    for name, field in kind.fields or []:
        path = f"{prefix}{name}"
        if not PADDING.search(name):
            yield path, base + field.offset
        if field.type.kind in ("struct", "union") and not name:
            yield from fields(field.type, prefix, base + field.offset)
        elif field.type.kind == "struct":
            yield from fields(field.type, f"{path}.", base + field.offset)


def test_every_structure_has_the_size_and_offsets_of_the_header(tmp_path):
    lines, ours = [], []
    for name in structures():
        kind = ffi.typeof(f"struct {name}")
        lines.append(f"sizeof(struct {name})")
        ours.append(ffi.sizeof(kind))
        for field, offset in fields(kind):
            if field.rpartition(".")[2]:
                lines.append(f"offsetof(struct {name}, {FIELDS.get(field, field)})")
                ours.append(offset)
    theirs = compile_and_run(lines, tmp_path)
    wrong = [(line, a, b) for line, a, b in zip(lines, ours, theirs, strict=True) if a != b]
    assert wrong == []
    assert len(lines) > 100


def test_every_ioctl_has_the_number_of_the_header(tmp_path):
    assert compile_and_run(list(abi.IOCTL), tmp_path) == list(abi.IOCTL.values())


def test_every_extension_has_the_number_of_the_header(tmp_path):
    names = [f"KVM_CAP_{name}" for name in caps.EXTENSIONS]
    assert compile_and_run(names, tmp_path) == list(caps.EXTENSIONS.values())


def test_exits_and_flags_have_the_numbers_of_the_header(tmp_path):
    ours = {
        "KVM_EXIT_IO": abi.EXIT_IO,
        "KVM_EXIT_HLT": abi.EXIT_HLT,
        "KVM_EXIT_MMIO": abi.EXIT_MMIO,
        "KVM_EXIT_SHUTDOWN": abi.EXIT_SHUTDOWN,
        "KVM_EXIT_FAIL_ENTRY": abi.EXIT_FAIL_ENTRY,
        "KVM_EXIT_INTERNAL_ERROR": abi.EXIT_INTERNAL_ERROR,
        "KVM_EXIT_IO_OUT": abi.IO_OUT,
        "KVM_SYNC_X86_REGS": abi.SYNC_X86_REGS,
        **{f"KVM_CAP_{name}": number for name, number in abi.CAPABILITIES.items()},
        "KVM_API_VERSION": abi.API_VERSION,
    }
    assert compile_and_run(list(ours), tmp_path) == list(ours.values())


def test_the_binding_is_freshly_generated(tmp_path):
    pytest.importorskip("cffi")
    fresh = tmp_path / "_ffi.py"
    ffi_source.generate(str(fresh))
    checked_in = ffi_source.__file__.replace("ffi_source", "_ffi")
    with open(checked_in) as file:
        assert fresh.read_text() == file.read()
