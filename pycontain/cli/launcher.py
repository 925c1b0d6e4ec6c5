"""
Write the program file: `python -m pycontain.cli.launcher DEST`.

A console script written by pip starts Python with the site module and the user's PYTHON* variables:
5 to 10 ms slower, and a way to run code as root. This file starts it with -I and -S and appends the
needed directories to those of the standard library. Root starts the sealed interpreter, other users
the ordinary one (`shebang`).

Where pip has installed the package, `setup` writes the file in place of pip's. DEST is for
checkouts: after an upgrade of the package it must be written again.
"""

from __future__ import annotations

import os
import sys

from ..errors import KernelError, PycontainError, UsageError, fault_of
from ..kernel import seal
from ..lean import archive
from . import pack, shebang
from .replacing import replacing

# one module from each directory: ours, the C binding, python-prctl, and the help's
_NEEDED = ("pycontain", "_cffi_backend", "prctl", "typer")


def directories() -> list[str]:
    """The directories that contain what pycontain imports, each once."""
    from importlib.util import find_spec

    folders: dict[str, None] = {}
    for name in _NEEDED:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise UsageError("is not installed", at=name, remedy="pip install pycontain")
        depth = 2 if spec.submodule_search_locations else 1
        origin = os.path.realpath(spec.origin)
        for _ in range(depth):
            origin = os.path.dirname(origin)
        folders[origin] = None
    return list(folders)


def interpreter() -> str:
    """
    What the first line names: a program that executes the running Python itself, not a link to it.

    For root the interpreter is sealed at once, so that not even the first start does that. Raises
    HostError if others than root could have changed the place where it is sealed.
    """
    own = os.path.realpath(seal.own())
    if os.geteuid() == 0:
        try:
            seal.mounted(own)
        except (KernelError, OSError):
            pass  # without overlayfs each start makes a copy in memory
    return shebang.write(own)


def text() -> str:
    """The program file's text."""
    return f"#!{interpreter()} {archive.FLAGS}\n" + archive.boot(f"sys.path += {directories()!r}")


def write(path: str) -> None:
    """Write the program to this path and pack the package. Raises PycontainError and OSError."""
    with pack.place() as directory:
        pack.pack(directory)
        put(path)


def put(path: str) -> None:
    """Write the program to this path, atomically. Raises PycontainError and OSError."""
    with replacing(path, 0o755) as half, open(half, "w", encoding="utf-8") as file:
        file.write(text())


if __name__ == "__main__":
    try:
        [destination] = sys.argv[1:]
    except ValueError:
        sys.exit("usage: python -m pycontain.cli.launcher DEST")
    try:
        write(destination)
    except (OSError, PycontainError) as error:
        sys.exit(f"pycontain: {fault_of(error).line()}")
