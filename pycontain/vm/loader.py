"""64-bit programs: what is loaded where (System V ABI, chapters 4 and 5)."""

from __future__ import annotations

import os

from ..errors import GuestError
from ..kernel import elf
from ..lean.record import Record
from .memory import PAGE
from .space import HIGHEST, LOWEST

_MACHINES = ("x86_64", "aarch64")
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
    The contents of a program's headers; addresses include its load base.

    machine   "x86_64" or "aarch64"
    headers   the address of the program headers, and how many there are
    loader    the path of the program that loads it, PT_INTERP; "" for a static program
    """

    machine: str
    entry: int
    headers: int
    header_count: int
    segments: tuple[Segment, ...]
    loader: str = ""


def read(fd: int, name: str, base: int = _PIE_BASE) -> Program:
    """
    Read and check the headers of an open file, which is loaded at base if it can be anywhere.

    Raises GuestError, which names the file, for anything that is not a program.
    """
    try:
        return _read(fd, base)
    except GuestError as error:
        error.fault.at = name
        raise


def _read(fd: int, base: int) -> Program:
    size = os.fstat(fd).st_size
    header = _checked(os.pread(fd, elf.HEADER_SIZE, 0))
    if header.table + header.count * header.row > size:
        raise GuestError("is truncated: its program headers are beyond its end")
    found = elf.read_segments(fd, header)
    base = base if header.kind == elf.ET_DYN else 0
    loaded = [s for s in found if s.kind == elf.PT_LOAD and s.memory_size]
    segments = [_segment(segment, base, size) for segment in loaded]
    _check_layout(segments, base + header.entry)
    return Program(
        machine=header.machine,
        entry=base + header.entry,
        headers=_headers_address(found, base, header.table),
        header_count=header.count,
        segments=tuple(segments),
        loader=elf.interpreter(fd, header),
    )


def _checked(start: bytes) -> elf.Header:
    if not elf.is_elf(start):
        raise GuestError("is not an ELF program")
    if len(start) < elf.HEADER_SIZE:
        raise GuestError("is truncated: it ends within its ELF header")
    header = elf.Header(start)
    if not header.wide or start[5] != 1:
        raise GuestError("is not a 64-bit little-endian program")
    if header.machine not in _MACHINES:
        raise GuestError(f"is for another machine, {header.machine}")
    if header.kind not in (elf.ET_EXEC, elf.ET_DYN):
        raise GuestError("is not executable: an object file or a core dump")
    if not header.has_sound_rows or not 0 < header.count <= _SEGMENTS_MAX:
        shown = f"{header.count} of {header.row} bytes"
        raise GuestError(f"has invalid program headers: {shown}")
    return header


def _segment(found: elf.Segment, base: int, file_size: int) -> Segment:
    offset, address, size, span = found.offset, found.address, found.file_size, found.memory_size
    shown = f"segment at {address:#x}"
    if offset + size > file_size:
        raise GuestError(f"is truncated: its {shown} is beyond its end")
    if size > span or offset % PAGE != address % PAGE:
        raise GuestError(
            f"is broken: its {shown} is larger in the file than in memory, or misaligned"
        )
    if base + address < LOWEST or base + address + span > HIGHEST:
        raise GuestError(f"is broken: its {shown} is outside the address range of programs")
    if found.flags & 3 == 3:
        raise GuestError(f"has a {shown} that is writable and executable, which is refused")
    # PF_R, PF_W, PF_X to PROT_*
    prot = (found.flags >> 2 & 1) | (found.flags & 2) | (found.flags & 1) << 2
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


def _headers_address(segments: list[elf.Segment], base: int, table: int) -> int:
    for segment in segments:
        if segment.kind == elf.PT_PHDR:
            return base + segment.address
        start = segment.offset
        if segment.kind == elf.PT_LOAD and start <= table < start + segment.file_size:
            return base + segment.address + table - start
    return 0
