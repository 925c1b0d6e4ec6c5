"""
The part of `os` that the engines' path uses, under the same names.

Importing the standard library's own takes a tenth of a container's start, since its environment
needs the abstract collections. This module has the system calls of `posix`, which is built into the
interpreter, and a few functions in Python. The environment is that of `posix`: a dictionary of
bytes; changing it does not change the C library's.
"""

from __future__ import annotations

from posix import *  # noqa: F403
from posix import _exit as _exit  # noqa: PLC0414

from . import path as path  # noqa: PLC0414

SEEK_SET, SEEK_END = 0, 2


def fsencode(text: str | bytes) -> bytes:
    """A file name as bytes, for the kernel."""
    return text.encode(errors="surrogateescape") if isinstance(text, str) else text


def fsdecode(name: str | bytes) -> str:
    """A file name as text, whatever bytes are in it."""
    return name.decode(errors="surrogateescape") if isinstance(name, bytes) else name


def makedirs(directory: str, mode: int = 0o777) -> None:
    """Create a directory and its parents, where missing. Raises OSError."""
    missing = [directory]
    while missing:
        try:
            mkdir(missing[-1], mode if len(missing) == 1 else 0o777)  # noqa: F405
        except FileExistsError:
            if not path.isdir(missing[-1]):
                raise
        except FileNotFoundError:
            above = path.dirname(missing[-1])
            if not above:  # of a relative path, below a working directory that was removed
                raise
            missing.append(above)
            continue
        missing.pop()
