"""The ELF loader: what it accepts, and what it must refuse in one clear line."""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import GuestError
from pycontain.vm import loader

CODE = 0x40_0000


def header(**changes):
    fields = {
        "ident": b"\x7fELF\x02\x01\x01".ljust(16, b"\0"), "kind": 2, "machine": 62, "version": 1,
        "entry": CODE + 0x100, "table": 64, "sections": 0, "flags": 0, "size": 64,
        "row": 56, "count": 1, "section_size": 0, "section_count": 0, "names": 0, **changes,
    }  # fmt: skip
    return struct.pack("<16sHHIQQQIHHHHHH", *fields.values())


def segment(**changes):
    fields = {
        "kind": 1, "flags": 5, "offset": 0, "address": CODE, "physical": CODE, "size": 0x200,
        "span": 0x200, "align": 4096, **changes,
    }  # fmt: skip
    return struct.pack("<IIQQQQQQ", *fields.values())


def read(data: bytes):
    fd = os.memfd_create("program")
    try:
        os.write(fd, data)
        return loader.read(fd, "program")
    finally:
        os.close(fd)


def program(*segments, size=0x1000, **changes):
    rows = segments or (segment(),)
    return (header(count=len(rows), **changes) + b"".join(rows)).ljust(size, b"\0")


def test_a_static_program_is_read():
    data = segment(flags=6, offset=0x300, address=CODE + 0x2300, size=0x100, span=0x5000)
    found = read(program(segment(), data))
    assert (found.machine, found.entry, found.headers, found.header_count) == (
        "x86_64", CODE + 0x100, CODE + 64, 2,
    )  # fmt: skip
    assert [segment.prot for segment in found.segments] == [5, 3]
    assert found.segments[1].span == 0x5000


def test_a_position_independent_program_gets_a_base():
    found = read(program(segment(address=0), kind=3, entry=0x100))
    assert found.entry == 0x5555_5555_4100
    assert found.segments[0].address == 0x5555_5555_4000


def test_the_loader_accepts_programs_for_aarch64():
    assert read(program(machine=183)).machine == "aarch64"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is not an ELF program"),
        (b"#!/bin/sh\n", "is not an ELF program"),
        (b"\x7fELF\x02\x01", "is truncated: it ends within its ELF header"),
        (header()[:63], "ends within its ELF header"),
        (header(), "its program headers are beyond its end"),
        (program(ident=b"\x7fELF\x01\x01".ljust(16, b"\0")), "not a 64-bit little-endian"),
        (program(ident=b"\x7fELF\x02\x02".ljust(16, b"\0")), "not a 64-bit little-endian"),
        (program(machine=3), "is for another machine, i386"),
        (program(machine=243), "is for another machine, riscv64"),
        (program(machine=9999), "is for another machine, number 9999"),
        (program(kind=1), "is not executable"),
        (program(kind=4), "is not executable"),
        (program(row=32), "has invalid program headers"),
        (header(count=0).ljust(4096), "has invalid program headers"),
        (header(count=0xFFFF).ljust(4 << 20), "has invalid program headers"),
        (program(table=0xFFFF_FFFF_FFFF_FFF0), "program headers are beyond its end"),
        (program(segment(size=0x2000, span=0x2000)), "is truncated: its segment at 0x400000"),
        (program(segment(offset=1 << 62, size=1 << 62)), "is truncated"),
        (program(segment(size=0x200, span=0x100)), "is broken"),
        (program(segment(address=CODE + 1)), "is broken"),
        (program(segment(address=0)), "outside the address range"),
        (program(segment(address=0x8000)), "outside the address range"),
        (program(segment(address=1 << 63)), "outside the address range"),
        (program(segment(span=1 << 63)), "outside the address range"),
        (program(segment(flags=7)), "is writable and executable, which is refused"),
        (program(segment(), segment(address=CODE)), "two of its segments share a page"),
        (program(segment(), segment(address=CODE + 0x200, offset=0x200)), "share a page"),
        (program(entry=0), "its entry is not in an executable segment"),
        (program(segment(flags=4)), "its entry is not in an executable segment"),
    ],
)
def test_the_loader_refuses_what_cannot_run_in_one_line(data, words):
    with pytest.raises(GuestError, match=words) as caught:
        read(data)
    assert str(caught.value).startswith("program ")
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=300), st.integers(0, 120))
def test_no_bytes_break_the_loader(junk, at):
    whole = bytearray(program(segment(), segment(flags=6, address=CODE + 0x2000)))
    whole[at : at + len(junk)] = junk
    try:
        found = read(bytes(whole))
    except GuestError:
        return
    assert found.segments
