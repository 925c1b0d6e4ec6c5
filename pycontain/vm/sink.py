"""Where a guest's output goes: a descriptor, or memory with a limit."""

from __future__ import annotations

import os

from ..errors import GuestError

STDOUT = 1


class Descriptor:
    """Writes everything to a descriptor at once: people watch it."""

    __slots__ = ("fd",)

    def __init__(self, fd: int = STDOUT) -> None:
        self.fd = fd

    def __call__(self, data: bytes | memoryview) -> None:
        """Raises OSError when the reader is gone."""
        left = memoryview(data)
        while left:
            left = left[os.write(self.fd, left) :]


class Capture:
    """Keeps up to limit bytes in memory."""

    __slots__ = ("data", "limit")

    def __init__(self, limit: int = 16 << 20) -> None:
        self.data = bytearray()
        self.limit = limit

    def __call__(self, data: bytes | memoryview) -> None:
        """Raises GuestError when the guest writes more than the limit."""
        self.data += data[: self.limit - len(self.data)]
        if len(self.data) == self.limit:
            raise GuestError(f"wrote more than the {self.limit} bytes that are kept", at="guest")
