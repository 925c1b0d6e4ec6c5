"""Which frames of guest physical memory are free: runs of whole pages, first fit."""

from __future__ import annotations

from bisect import bisect_left

from .memory import PAGE


class OutOfFrames(Exception):
    """No run of this length is free."""


class Frames:
    """The free runs between two physical addresses, in bytes, sorted and never adjacent."""

    __slots__ = ("_runs", "free")

    def __init__(self, start: int, end: int) -> None:
        self._runs = [(start, end)]
        self.free = end - start

    def take(self, length: int) -> int:
        """The address of a run of length bytes. Raises OutOfFrames when none is long enough."""
        for number, (start, end) in enumerate(self._runs):
            if end - start >= length:
                rest = start + length
                self._runs[number : number + 1] = [(rest, end)] if rest < end else []
                self.free -= length
                return start
        raise OutOfFrames

    def take_last(self, length: int) -> int:
        """A run from the far end: page tables go there, so that they do not fragment the rest."""
        for number in range(len(self._runs) - 1, -1, -1):
            start, end = self._runs[number]
            if end - start >= length:
                rest = end - length
                self._runs[number : number + 1] = [(start, rest)] if start < rest else []
                self.free -= length
                return rest
        raise OutOfFrames

    def give(self, start: int, length: int) -> None:
        """Return a run."""
        end = start + length
        number = bisect_left(self._runs, (start, 0))
        if number < len(self._runs) and self._runs[number][0] == end:
            end = self._runs.pop(number)[1]
        if number and self._runs[number - 1][1] == start:
            number -= 1
            start = self._runs.pop(number)[0]
        self._runs.insert(number, (start, end))
        self.free += length


def pages(length: int) -> int:
    """Length rounded up to whole pages, in bytes."""
    return -(-length // PAGE) * PAGE
