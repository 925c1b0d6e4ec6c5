"""Where a guest's output goes: a descriptor, or memory with a limit."""

from __future__ import annotations

import os

from ..errors import GuestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .deadline import Deadline

_POLLOUT, _PIPE_BUF = 4, 4096  # a ready descriptor accepts this much at once, pipe(7)


class Descriptor:
    """Writes everything to a descriptor immediately: a user may be watching."""

    __slots__ = ("_deadline", "_fd")

    def __init__(self, fd: int, deadline: Deadline) -> None:
        self._fd = fd
        self._deadline = deadline

    def __call__(self, data: bytes | memoryview) -> None:
        """Raises OSError when the reader has closed its end, Timeout when it does not read."""
        left = memoryview(data)
        while left:
            bounded = self._deadline.wait(self._fd, _POLLOUT)
            left = left[os.write(self._fd, left[:_PIPE_BUF] if bounded else left) :]


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
            raise GuestError(f"wrote more than the limit of {self.limit} bytes", at="guest")
