"""
What a forked child of the program must not share with it.

A child of fork(2) has copies of all descriptors. If it kept the copy of a worker's socket, the
worker would not notice the end of the program; with the copy of a pipe, a container would wait
forever for more input; with the copy of a locked file, the file would stay locked. And a lock that
another thread held when the program forked stays locked in the child.
"""

from __future__ import annotations

import os

from .. import _no_fork as making

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Shared(Protocol):
        """An object whose copy is useless in a child."""

        def close_copy(self) -> None:
            """In a child: close what belongs to the program."""


__all__ = ["making", "share", "unshare"]  # making is held while descriptors are made and shared
_shared: dict[int, Shared] = {}


def share(thing: Shared) -> None:
    """Have an object's `close_copy` called in every child that is forked from now on."""
    _shared[id(thing)] = thing


def unshare(thing: Shared) -> None:
    """Stop sharing an object, which is closed."""
    _shared.pop(id(thing), None)


def _close_copies() -> None:
    for thing in list(_shared.values()):
        thing.close_copy()


os.register_at_fork(after_in_child=_close_copies)
