"""
ELF files, as far as execve(2) reads them: the header and the program headers. elf(5).

This module only reads; its callers decide what is acceptable.
"""

from __future__ import annotations

from ..lean import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_PHDR = 1, 2, 3, 6
ET_EXEC, ET_DYN = 2, 3
HEADER_SIZE = 64  # bytes, of a 64-bit file; a 32-bit one has 52

_DT_NEEDED, _DT_STRTAB, _DT_STRSZ = 1, 5, 10

_MACHINES = {
    3: "i386", 8: "mips", 20: "powerpc", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86_64",
    183: "aarch64", 243: "riscv64",
}  # fmt: skip
_SEGMENT_SIZE = {True: 56, False: 32}  # bytes, of 64-bit files and of others
_TABLE_MAX = 1 << 16  # bytes: the kernel executes nothing with more program headers
_PATH_MAX = 4096


class Header:
    """
    The ELF header in the first HEADER_SIZE bytes of a file.

    wide         whether it is a 64-bit file
    order        its byte order
    kind         ET_*
    machine      the name of the architecture, as in uname(1)
    entry        the address of the first instruction
    table        the offset of the program headers, in bytes
    row, count   the size of each, in bytes, and their number
    """

    __slots__ = ("count", "entry", "kind", "machine", "order", "row", "table", "wide")

    def __init__(self, start: bytes) -> None:
        self.wide = start[4] == 2
        self.order: Literal["little", "big"] = "little" if start[5] == 1 else "big"

        def number(at: int, size: int) -> int:
            return int.from_bytes(start[at : at + size], self.order)

        machine = number(18, 2)
        sizes = 54 if self.wide else 42
        self.kind = number(16, 2)
        self.machine = _MACHINES.get(machine, f"number {machine}")
        self.entry = number(24, 8 if self.wide else 4)
        self.table = number(32, 8) if self.wide else number(28, 4)
        self.row = number(sizes, 2)
        self.count = number(sizes + 2, 2)

    @property
    def has_sound_rows(self) -> bool:
        """Whether the program headers have the only valid size."""
        return self.row == _SEGMENT_SIZE[self.wide]


class Segment:
    """A program header: kind is PT_*, flags are PF_*, offset and sizes are in bytes."""

    __slots__ = ("address", "file_size", "flags", "kind", "memory_size", "offset")

    def __init__(self, row: bytes, header: Header) -> None:
        def number(at: int, size: int) -> int:
            return int.from_bytes(row[at : at + size], header.order)

        wide = header.wide
        self.kind = number(0, 4)
        self.flags = number(4 if wide else 24, 4)
        self.offset = number(8, 8) if wide else number(4, 4)
        self.address = number(16, 8) if wide else number(8, 4)
        self.file_size = number(32, 8) if wide else number(16, 4)
        self.memory_size = number(40, 8) if wide else number(20, 4)


def is_elf(start: bytes) -> bool:
    """Whether a file that starts with these bytes claims to be ELF."""
    return start[:4] == b"\x7fELF"


def read_segments(fd: int, header: Header) -> list[Segment]:
    """The program headers of an open file, which must have sound rows. Raises OSError."""
    data = os.pread(fd, min(header.row * header.count, _TABLE_MAX), header.table)
    return [
        Segment(data[start : start + header.row], header)
        for start in range(0, len(data) - header.row + 1, header.row)
    ]


def interpreter(fd: int, header: Header) -> str:
    """The loader of a dynamic program, "" for a static one. Raises OSError."""
    if not header.has_sound_rows:
        return ""
    for segment in read_segments(fd, header):
        if segment.kind == PT_INTERP:
            path = os.pread(fd, _PATH_MAX, segment.offset)
            return path.split(b"\0", 1)[0].decode(errors="replace")
    return ""


def needed(fd: int, header: Header) -> list[tuple[str, int]]:
    """The libraries that a program needs, and where in its file each name is. Raises OSError."""
    segments = read_segments(fd, header) if header.has_sound_rows else []
    for segment in segments:
        if segment.kind == PT_DYNAMIC:
            entries = _dynamic_entries(fd, header, segment)
            break
    else:
        return []
    values = dict(entries)
    table = _offset_of(values[_DT_STRTAB], segments)
    names = os.pread(fd, values[_DT_STRSZ], table)
    starts = [value for tag, value in entries if tag == _DT_NEEDED]
    return [
        (names[start:].split(b"\0", 1)[0].decode(errors="replace"), table + start)
        for start in starts
    ]


def _dynamic_entries(fd: int, header: Header, segment: Segment) -> list[tuple[int, int]]:
    """The (tag, value) pairs of a dynamic section."""
    data = os.pread(fd, segment.file_size, segment.offset)
    size = 8 if header.wide else 4
    words = [
        int.from_bytes(data[start : start + size], header.order)
        for start in range(0, len(data), size)
    ]
    return list(zip(words[::2], words[1::2], strict=True))


def _offset_of(address: int, segments: list[Segment]) -> int:
    """Where in the file the byte is that is loaded at an address."""
    for segment in segments:
        if segment.kind == PT_LOAD and 0 <= address - segment.address < segment.file_size:
            return segment.offset + address - segment.address
    return 0
