"""Guest physical memory: one anonymous mapping of this process, every access bounds-checked."""

from __future__ import annotations

import mmap
import os

from ..errors import GuestError, HostError, UsageError, reason
from ._ffi import ffi

PAGE = 4096
_lib = ffi.dlopen(None)
_SHARED, _PRIVATE, _FIXED, _ANONYMOUS = 0x1, 0x2, 0x10, 0x20  # MAP_*, mmap(2)
_MSYNC, _SYNC = (26 if os.uname().machine == "x86_64" else 227), 4  # MS_SYNC
_NORESERVE = 0x4000  # MAP_NORESERVE: the host provides pages when the guest touches them


class OutsideMemory(GuestError):
    """A guest gave a physical address that is not in its memory."""


class Memory:
    """
    size bytes of guest physical memory, from address 0; zero until written.

    host  the address of its first byte in this process

    Raises UsageError for a size that is not whole pages, HostError when the host has less memory.
    """

    __slots__ = ("_map", "_pin", "host", "size", "view")

    def __init__(self, size: int) -> None:
        if size <= 0 or size % PAGE:
            raise UsageError(
                "is not a positive number of whole pages", at="memory", value=f"{size} bytes",
                remedy=f"give a multiple of {PAGE} bytes",
            )  # fmt: skip
        total = os.sysconf("SC_PHYS_PAGES") * PAGE
        if size > total:
            raise HostError(
                f"is more than the {total >> 20} MiB of this host", at="memory",
                value=f"{size >> 20} MiB", remedy="give the guest less memory",
            )  # fmt: skip
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE
        self.size = size
        self._map = mmap.mmap(-1, size, flags)
        self._pin = ffi.from_buffer(self._map)
        self.host = int(ffi.cast("uintptr_t", self._pin))
        self.view = memoryview(self._map)

    def close(self) -> None:
        """Return the pages to the host."""
        self.view.release()
        ffi.release(self._pin)
        try:
            self._map.close()
        except BufferError:  # the traceback of an error holds a view, and with it the mapping
            self._map.madvise(mmap.MADV_DONTNEED)

    def slice(self, address: int, length: int) -> memoryview:
        """
        The bytes themselves, to be read or written in place.

        Raises OutsideMemory when one of them is.
        """
        if address < 0 or length < 0 or address + length > self.size:
            raise OutsideMemory(
                f"is outside of the guest's {self.size >> 20} MiB of memory",
                at="guest physical address", value=f"{address:#x} + {length:#x}",
            )  # fmt: skip
        return self.view[address : address + length]

    def read(self, address: int, length: int) -> bytes:
        """A copy of length bytes. Raises OutsideMemory as slice() does."""
        return bytes(self.slice(address, length))

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Put bytes at an address. Raises OutsideMemory as slice() does."""
        self.slice(address, len(data))[:] = data

    def load(self, address: int, size: int) -> int:
        """A little-endian number of size bytes."""
        return int.from_bytes(self.slice(address, size), "little")

    def store(self, address: int, size: int, value: int) -> None:
        """Put a little-endian number of size bytes."""
        self.slice(address, size)[:] = value.to_bytes(size, "little")

    # A refusal of the next two ends the run: KVM could still use what it was to drop.

    def discard(self, address: int, length: int) -> None:
        """
        Return whole pages to the host: they read as zero, and KVM drops its translations of them.

        Raises GuestError when the host refuses, as for locked pages.
        """
        try:
            self._map.madvise(mmap.MADV_DONTNEED, address, length)
        except OSError as error:
            raise _refused("madvise", error.errno or 0) from None

    def forget(self, address: int, length: int) -> None:
        """
        Make KVM drop its translations of whole pages, but keep their contents.

        KVM does not notice that this process changes the guest's page tables, but it follows what
        happens to the pages themselves (api.rst, KVM_CAP_SYNC_MMU). Raises GuestError when the host
        refuses, as when it has no memory for another mapping.
        """
        for protection in (0, mmap.PROT_READ | mmap.PROT_WRITE):
            if _lib.mprotect(ffi.cast("void *", self.host + address), length, protection) != 0:
                raise _refused("mprotect", ffi.errno)

    def share(self, address: int, length: int, file: int, offset: int = 0) -> None:
        """
        Put length bytes of an open file at an address; forked processes share them.

        An access beyond the end of the file would kill this process. Raises OSError.
        """
        self._remap(address, length, _SHARED, file, offset)

    def sync(self, address: int, length: int) -> None:
        """Write shared pages to their files, msync(2). Raises OSError."""
        if _lib.syscall(_MSYNC, self.host + address, length, _SYNC, 0, 0, 0) < 0:
            raise OSError(ffi.errno, "")

    def renew(self, address: int, length: int) -> None:
        """Undo share(): private pages again, which read as zero. Raises GuestError if refused."""
        try:
            self._remap(address, length, _PRIVATE | _ANONYMOUS | _NORESERVE, -1)
        except OSError as error:
            raise _refused("mmap", error.errno or 0) from None

    def _remap(self, address: int, length: int, flags: int, file: int, offset: int = 0) -> None:
        where = ffi.cast("void *", self.host + address)
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        if _lib.mmap(where, length, protection, flags | _FIXED, file, offset) != where:
            raise OSError(ffi.errno, "")


def _refused(call: str, number: int) -> GuestError:
    return GuestError(reason(number), call=call, at="guest memory", errno=number)
