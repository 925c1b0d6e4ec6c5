"""
The part of `os` that the engines' path uses, under the same names.

The standard library's own costs a tenth of a container's start: it makes the abstract collections,
for its environment. Here are the system calls of `posix`, which is in the interpreter, and a few
functions in Python. The environment is as `posix` has it: bytes, and changing it changes nothing
but this dictionary.
"""

from __future__ import annotations

from posix import *  # noqa: F403
from posix import _exit as _exit  # noqa: PLC0414

from . import path as path  # noqa: PLC0414

SEEK_SET, SEEK_END = 0, 2


def fsencode(text: str | bytes) -> bytes:
    """A file name as the kernel takes it."""
    return text.encode(errors="surrogateescape") if isinstance(text, str) else text


def fsdecode(name: str | bytes) -> str:
    """A file name as text, whatever bytes are in it."""
    return name.decode(errors="surrogateescape") if isinstance(name, bytes) else name


def makedirs(folder: str, mode: int = 0o777) -> None:
    """Make a directory and those above it, where they are missing. Raises OSError."""
    try:
        mkdir(folder, mode)  # noqa: F405
    except FileExistsError:
        if not path.isdir(folder):
            raise
    except FileNotFoundError:
        makedirs(path.dirname(folder))
        makedirs(folder, mode)
