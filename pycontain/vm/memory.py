"""Guest physical memory: one anonymous mapping of this process, every access bounds-checked."""

from __future__ import annotations

import mmap
import os

from ..errors import GuestError, HostError, KernelError, UsageError
from ._ffi import ffi

PAGE = 4096
_lib = ffi.dlopen(None)
_NORESERVE = 0x4000  # MAP_NORESERVE: pages are the host's only when the guest touches them


class Memory:
    """
    size bytes of guest physical memory, from address 0; zero until written.

    host  the address of its first byte in this process

    Raises UsageError for a size that is not whole pages, HostError when the host has less.
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
        """Give the pages back to the host."""
        self.view.release()
        ffi.release(self._pin)
        try:
            self._map.close()
        except BufferError:  # the traceback of an error holds a view: the mapping goes with it
            self._map.madvise(mmap.MADV_DONTNEED)

    def slice(self, address: int, length: int) -> memoryview:
        """
        The bytes themselves, to be read or written in place.

        Raises GuestError when one of them is outside of memory.
        """
        if address < 0 or length < 0 or address + length > self.size:
            raise GuestError(
                f"is outside of the guest's {self.size >> 20} MiB of memory",
                at="guest physical address", value=f"{address:#x} + {length:#x}",
            )  # fmt: skip
        return self.view[address : address + length]

    def read(self, address: int, length: int) -> bytes:
        """A copy of length bytes. Raises GuestError as slice() does."""
        return bytes(self.slice(address, length))

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Put bytes at an address. Raises GuestError as slice() does."""
        self.slice(address, len(data))[:] = data

    def load(self, address: int, size: int) -> int:
        """A little-endian number of size bytes."""
        return int.from_bytes(self.slice(address, size), "little")

    def store(self, address: int, size: int, value: int) -> None:
        """Put a little-endian number of size bytes."""
        self.slice(address, size)[:] = value.to_bytes(size, "little")

    def discard(self, address: int, length: int) -> None:
        """Give whole pages back to the host, and forget them; they read as zero afterwards."""
        self._map.madvise(mmap.MADV_DONTNEED, address, length)

    def forget(self, address: int, length: int) -> None:
        """
        Make KVM drop its translations of whole pages, and keep what is in them.

        KVM does not see this process change the guest's page tables, but it follows what happens
        to the pages themselves (api.rst, KVM_CAP_SYNC_MMU).
        """
        for protection in (0, mmap.PROT_READ | mmap.PROT_WRITE):
            if _lib.mprotect(ffi.cast("void *", self.host + address), length, protection) != 0:
                raise KernelError.of("mprotect", ffi.errno)
