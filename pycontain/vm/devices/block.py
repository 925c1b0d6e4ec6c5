"""The virtio block device (virtio 1.2, 5.2): a raw file as a disk of sectors of 512 bytes."""

from __future__ import annotations

import os

from ...errors import HostError
from .virtio import BrokenRing, VirtioDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..memory import Memory
    from .serial import Line
    from .virtio import Chain, Queue

SECTOR = 512
_READ, _WRITE, _FLUSH, _GET_ID = 0, 1, 4, 8
_OK, _IO_ERROR, _UNSUPPORTED = 0, 1, 2
_SEG_MAX, _GEOMETRY, _READ_ONLY, _BLOCK_SIZE, _CAN_FLUSH = 1 << 2, 1 << 4, 1 << 5, 1 << 6, 1 << 9
_HEADS, _SECTORS_PER_TRACK = 16, 63  # as disks have reported since the IDE days
_SEGMENTS = 126


class VirtioBlock(VirtioDevice):
    """
    A raw file as a disk; its size is rounded down to whole sectors.

    Raises HostError when the file is smaller than one sector.
    """

    ID = 2

    def __init__(
        self, memory: Memory, fd: int, irq: Line | None = None, *, read_only: bool = False
    ) -> None:
        self._fd = fd
        self._sectors = os.lseek(fd, 0, os.SEEK_END) // SECTOR
        self._read_only = read_only
        if not self._sectors:
            raise HostError("is smaller than a sector of 512 bytes", at="disk")
        extra = _READ_ONLY if read_only else _CAN_FLUSH
        self.FEATURES = _SEG_MAX | _GEOMETRY | _BLOCK_SIZE | extra
        super().__init__(memory, irq)

    def config(self) -> bytes:
        """Capacity, segments, geometry and block size, as struct virtio_blk_config."""
        cylinders = min(self._sectors // (_HEADS * _SECTORS_PER_TRACK), 0xFFFF)
        return (
            self._sectors.to_bytes(8, "little")
            + bytes(4)  # size_max is not offered
            + _SEGMENTS.to_bytes(4, "little")
            + cylinders.to_bytes(2, "little")
            + bytes((_HEADS, _SECTORS_PER_TRACK))
            + SECTOR.to_bytes(4, "little")
        )

    def notify(self, queue: Queue, number: int) -> None:  # noqa: ARG002
        """Serve every pending request, in order."""
        for chain in queue.take():
            queue.give(chain, self._serve(chain))
            self.interrupt()

    def _serve(self, chain: Chain) -> int:
        """Serve one request and write its status; returns the number of bytes written."""
        if not chain.writable or not len(chain.writable[-1]) or len(chain.readable) < 1:
            raise BrokenRing("has no header or no status byte", at="virtio block request")
        header = chain.readable[0]
        if len(header) < 16:
            raise BrokenRing("has a short header", at="virtio block request")
        kind, sector = int.from_bytes(header[:4], "little"), int.from_bytes(header[8:16], "little")
        last = chain.writable[-1]
        data_in = [*chain.writable[:-1], last[:-1]]
        data_out = [header[16:], *chain.readable[1:]]
        try:
            status, written = self._carry_out(kind, sector, data_in, data_out)
        except OSError:  # the guest sees it as an error of its disk
            status, written = _IO_ERROR, 0
        last[-1] = status
        return written + 1

    def _carry_out(
        self, kind: int, sector: int, data_in: list[memoryview], data_out: list[memoryview]
    ) -> tuple[int, int]:
        if kind == _READ:
            return self._read(sector, data_in)
        if kind == _WRITE:
            return self._write(sector, data_out), 0
        if kind == _FLUSH:
            os.fdatasync(self._fd)
            return _OK, 0
        if kind == _GET_ID:
            name = b"pycontain"[: len(data_in[0])]
            data_in[0][: len(name)] = name
            return _OK, len(name)
        return _UNSUPPORTED, 0

    def _inside(self, sector: int, parts: list[memoryview]) -> bool:
        length = sum(map(len, parts))
        return length % SECTOR == 0 and sector + length // SECTOR <= self._sectors

    def _read(self, sector: int, parts: list[memoryview]) -> tuple[int, int]:
        if not self._inside(sector, parts):
            return _IO_ERROR, 0
        wanted = sum(map(len, parts))
        got = os.preadv(self._fd, parts, sector * SECTOR)
        return (_OK if got == wanted else _IO_ERROR), got

    def _write(self, sector: int, parts: list[memoryview]) -> int:
        if self._read_only or not self._inside(sector, parts):
            return _IO_ERROR
        wanted = sum(map(len, parts))
        return _OK if os.pwritev(self._fd, parts, sector * SECTOR) == wanted else _IO_ERROR
