"""C types in registers and memory: signed numbers, and struct stat of each machine (asm/stat.h)."""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable

_STAT_X86_64 = struct.Struct("<QQQIIIIQqqqqqqqqq24x")
_STAT_GENERIC = struct.Struct("<QQIIIIQQqiiqqqqqqq8x")


def _times(info: os.stat_result) -> tuple[int, ...]:
    return tuple(
        part
        for stamp in (info.st_atime_ns, info.st_mtime_ns, info.st_ctime_ns)
        for part in divmod(stamp, 10**9)
    )


def _x86_64(info: os.stat_result) -> bytes:
    return _STAT_X86_64.pack(
        info.st_dev, info.st_ino, info.st_nlink, info.st_mode, info.st_uid, info.st_gid, 0,
        info.st_rdev, info.st_size, info.st_blksize, info.st_blocks, *_times(info),
    )  # fmt: skip


def _generic(info: os.stat_result) -> bytes:
    return _STAT_GENERIC.pack(
        info.st_dev, info.st_ino, info.st_mode, info.st_nlink, info.st_uid, info.st_gid,
        info.st_rdev, 0, info.st_size, info.st_blksize, 0, info.st_blocks, *_times(info),
    )  # fmt: skip


STAT: dict[str, Callable[[os.stat_result], bytes]] = {"x86_64": _x86_64, "aarch64": _generic}


def signed(value: int, bits: int) -> int:
    """The signed C integer in the low bits of a register."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value


_STATX = struct.Struct("<IIQIIIHxxQQQQ")
_BASIC_STATS = 0x7FF


def statx_bytes(info: os.stat_result) -> bytes:
    """Struct statx with what stat(2) shows."""
    from os import major, minor

    head = _STATX.pack(
        _BASIC_STATS, info.st_blksize, 0, info.st_nlink, info.st_uid, info.st_gid, info.st_mode,
        info.st_ino, info.st_size, info.st_blocks, 0,
    )  # fmt: skip
    stamps = (info.st_atime_ns, 0, info.st_ctime_ns, info.st_mtime_ns)
    times = b"".join(struct.pack("<qI4x", *divmod(stamp, 10**9)) for stamp in stamps)
    devices = (major(info.st_rdev), minor(info.st_rdev), major(info.st_dev), minor(info.st_dev))
    return (head + times + struct.pack("<IIII", *devices)).ljust(256, b"\0")


def words(*values: int) -> bytes:
    """Numbers of 64 bits in memory."""
    return b"".join((value & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "little") for value in values)
