"""Static ELF programs of 64 bits: what has to be loaded where (System V ABI, chapters 4 and 5)."""

from __future__ import annotations

import os
import struct

from ..errors import GuestError
from ..record import Record
from .memory import PAGE
from .space import HIGHEST, LOWEST

X86_64, AARCH64 = 62, 183
MACHINES = {X86_64: "x86_64", AARCH64: "aarch64"}

_OTHERS = {3: "i386", 8: "mips", 20: "powerpc", 21: "ppc64", 22: "s390", 40: "arm", 243: "riscv"}
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_EXECUTABLE, _SHARED = 2, 3
_PT_LOAD, _PT_INTERP, _PT_PHDR = 1, 3, 6
_SEGMENTS_MAX = 128
_PIE_BASE = 0x5555_5555_4000  # where Linux puts them without randomization


class Segment(Record):
    """Bytes offset to offset + size of the file, at address, followed by zeros up to span bytes."""

    address: int
    span: int
    offset: int
    size: int
    prot: int


class Program(Record):
    """
    What the header of a program says; addresses have its base added.

    machine   "x86_64" or "aarch64"
    headers   the address of the program headers, and how many there are
    """

    machine: str
    entry: int
    headers: int
    header_count: int
    segments: tuple[Segment, ...]


def is_elf(start: bytes) -> bool:
    """Whether a file that starts so claims to be ELF."""
    return start[:4] == b"\x7fELF"


def read(fd: int, name: str) -> Program:
    """
    Read and check the headers of an open file.

    Raises GuestError, which names the file, for everything that is not a static program.
    """
    try:
        return _read(fd)
    except GuestError as error:
        error.fault.at = name
        raise


def _read(fd: int) -> Program:
    size = os.fstat(fd).st_size
    start = os.pread(fd, _HEADER.size, 0)
    kind, machine, entry, table, count = _header(start)
    if table + count * _SEGMENT.size > size:
        raise GuestError("is truncated: its program headers are beyond its end")
    rows = list(_SEGMENT.iter_unpack(os.pread(fd, count * _SEGMENT.size, table)))
    if any(row[0] == _PT_INTERP for row in rows):
        raise GuestError("is dynamically linked", remedy="build it with -static")
    base = _PIE_BASE if kind == _SHARED else 0
    segments = [_segment(row, base, size) for row in rows if row[0] == _PT_LOAD and row[6]]
    _check_layout(segments, base + entry)
    return Program(
        machine=MACHINES[machine],
        entry=base + entry,
        headers=_headers_address(rows, base, table),
        header_count=count,
        segments=tuple(segments),
    )


def _header(start: bytes) -> tuple[int, int, int, int, int]:
    """Type, machine, entry, and offset and number of the program headers."""
    if not is_elf(start):
        raise GuestError("is not an ELF program")
    if len(start) < _HEADER.size:
        raise GuestError("is truncated: it ends within its ELF header")
    if start[4:6] != b"\x02\x01":
        raise GuestError("is not a 64-bit little-endian program")
    _, kind, machine, _, entry, table, _, _, _, row_size, count, _, _, _ = _HEADER.unpack(start)
    if machine not in MACHINES:
        known = _OTHERS.get(machine, f"number {machine}")
        raise GuestError(f"is for another machine, {known}")
    if kind not in (_EXECUTABLE, _SHARED):
        raise GuestError("is not executable: an object file or a core dump")
    if row_size != _SEGMENT.size or not 0 < count <= _SEGMENTS_MAX:
        raise GuestError("has no program headers that make sense", value=f"{count} of {row_size}")
    return kind, machine, entry, table, count


def _segment(row: tuple[int, ...], base: int, file_size: int) -> Segment:
    _, flags, offset, address, _, size, span, _ = row
    shown = f"segment at {address:#x}"
    if offset + size > file_size:
        raise GuestError(f"is truncated: its {shown} is beyond its end")
    if size > span or offset % PAGE != address % PAGE:
        raise GuestError(f"is broken: its {shown} is larger in the file than in memory, or askew")
    if base + address < LOWEST or base + address + span > HIGHEST:
        raise GuestError(f"is broken: its {shown} is where no program may be")
    if flags & 3 == 3:
        raise GuestError(f"has a {shown} that is writable and executable, which is refused")
    prot = (flags >> 2 & 1) | (flags & 2) | (flags & 1) << 2  # PF_R, PF_W, PF_X to PROT_*
    return Segment(address=base + address, span=span, offset=offset, size=size, prot=prot)


def _check_layout(segments: list[Segment], entry: int) -> None:
    end = 0
    for segment in sorted(segments, key=lambda segment: segment.address):
        if segment.address // PAGE * PAGE < end:
            raise GuestError("is broken: two of its segments share a page")
        end = -(-(segment.address + segment.span) // PAGE) * PAGE
    inside = (s for s in segments if s.prot & 4 and s.address <= entry < s.address + s.span)
    if not any(inside):
        raise GuestError("is broken: its entry is not in an executable segment")


def _headers_address(rows: list[tuple[int, ...]], base: int, table: int) -> int:
    for kind, _, offset, address, _, size, _, _ in rows:
        if kind == _PT_PHDR:
            return base + address
        if kind == _PT_LOAD and offset <= table < offset + size:
            return base + address + table - offset
    return 0
