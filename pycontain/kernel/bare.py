"""
A process that has none of the memory of the one that creates it: `_bare.c` says how.

It makes the system calls that it was created with, one after the other. It knows neither Python nor
the C library, so that everything is prepared here: numbers, arguments, and what they point to.
"""

from __future__ import annotations

import errno
import sys

from ..errors import KernelError
from . import _bare
from ._ffi import ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_ROOM = 8 << 20  # bytes: execve(2) accepts at most 6 MiB of arguments and environment
_RUN = -1  # RUN of _bare.c
_READABLE = 1  # POLLIN
TOO_LATE = 1 << 16  # of _bare.c: in place of an errno, of a program that has run too long
TAIL = b'00000"}\n'  # how a text for a failure must end: the number is put where the zeros are


class Orders:
    """
    The system calls of a bare process, and the memory that their arguments point to.

    Each has the text that the process writes if the call fails, "" for none; it then exits.

    report  the descriptor to which those that are added from now on write it
    """

    def __init__(self) -> None:
        """Raises KernelError."""
        self.report = -1
        try:
            self._room = _bare.room(_ROOM)
        except OSError as error:
            raise KernelError.of("mmap", error.errno or 0) from None
        self._base = int(ffi.cast("uintptr_t", ffi.from_buffer(self._room)))
        self._data = bytearray()
        self._calls: list[bytes] = []

    def place(self, data: bytes) -> int:
        """The address that this will have."""
        address = self._base + len(self._data)
        self._data += data + bytes(-len(data) % 8)
        return address

    def string(self, text: bytes) -> int:
        """The address that a string will have, with the NUL after it. Raises ValueError."""
        if b"\0" in text:
            raise ValueError("embedded null byte")  # as Python's own execve does
        return self.place(text + b"\0")

    def strings(self, addresses: Iterable[int]) -> int:
        """The address of an array of pointers, with the NULL after it."""
        return self.place(_words((*addresses, 0)))

    @property
    def count(self) -> int:
        """How many calls there are."""
        return len(self._calls)

    def call(
        self, number: int, *arguments: int, least: int = 0, text: bytes = b"", at: int | None = None
    ) -> None:
        """
        Add a system call; a result below `least` is a failure.

        at  how many of the others come before it, None for all; none of those that `run` is about
        """
        assert not text or text.endswith(TAIL)
        padded = (*arguments, *(0,) * (6 - len(arguments)))
        where = self.place(text) if text else 0
        words = _words((number, least, *padded, where, len(text), self.report))
        self._calls.insert(self.count if at is None else at, words)

    def run(self, count: int, seconds: int | None, text: bytes) -> None:
        """
        Let a child of the bare process make the next calls, so many, and wait for its end.

        It must begin with a process group of its own, which is killed after this time. Its failure
        is an end other than with status 0; the number in the text is its wait status, or TOO_LATE.
        """
        limit = 0 if seconds is None else self.place(_words((seconds, 0)))
        polled = self.place(bytes(4) + _READABLE.to_bytes(4, sys.byteorder))
        self.call(_RUN, count, limit, polled, self.place(bytes(8)), text=text)

    def spawn(self, flags: int) -> int:
        """
        Create the process with these flags of clone(2); returns its pid.

        CLONE_PARENT_SETTID is for a `SharedPid`, which must exist.

        Of this process only the shared memory is inherited, now or by later children: it can only
        exit, or create other bare processes. Raises KernelError.
        """
        orders = self.place(_words((len(self._calls),)) + b"".join(self._calls))
        if len(self._data) > len(self._room):
            raise KernelError.of("execve", errno.E2BIG)
        self._room[: len(self._data)] = self._data
        try:
            return _bare.spawn(flags, orders)
        except OSError as error:
            raise KernelError.of("clone", error.errno or 0) from None


class SharedPid:
    """
    The pid of a bare process, for the parent of the one that creates it.

    The kernel writes it, before the process runs, into memory that no bare process has. There is
    one per process, for one child at a time.
    """

    __slots__ = ("_page",)

    def __init__(self) -> None:
        """Raises KernelError."""
        try:
            self._page = _bare.page()
        except OSError as error:
            raise KernelError.of("mmap", error.errno or 0) from None
        self.number = 0

    @property
    def number(self) -> int:
        """The pid, -errno if no process could be created, 0 until then."""
        return int.from_bytes(self._page[:4], sys.byteorder, signed=True)

    @number.setter
    def number(self, number: int) -> None:
        self._page[:4] = number.to_bytes(4, sys.byteorder, signed=True)


def _words(numbers: Iterable[int]) -> bytes:
    """These numbers as the C type long."""
    return b"".join(number.to_bytes(8, sys.byteorder, signed=number < 0) for number in numbers)
