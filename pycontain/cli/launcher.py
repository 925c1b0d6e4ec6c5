"""
Write the program file: `python -m pycontain.cli.launcher DEST`.

What pip writes for a console script starts Python with the site module and the user's PYTHON*
variables: 5 to 10 ms more, and a way to run code as root. This file starts it with -I and -S and
names the directories that are needed, behind those of the standard library.
"""

from __future__ import annotations

import os
import sys

from ..errors import PycontainError, UsageError, fault_of
from ..kernel import seal
from ..lean import archive
from . import pack

# one import from each directory: ours, the compiled binding, python-prctl, the help's
_NEEDED = ("pycontain", "_cffi_backend", "prctl", "typer")


def directories() -> list[str]:
    """The directories that hold what pycontain imports, each once."""
    from importlib.util import find_spec

    found: dict[str, None] = {}
    for name in _NEEDED:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise UsageError("is not installed", at=name, remedy="pip install pycontain")
        depth = 2 if spec.submodule_search_locations else 1
        origin = os.path.realpath(spec.origin)
        for _ in range(depth):
            origin = os.path.dirname(origin)
        found[origin] = None
    return list(found)


def interpreter() -> str:
    """
    The interpreter for the first line: the running Python itself, not a virtual environment's link.

    For root it is the path at which the interpreter is found sealed (`kernel.seal`).
    """
    own = os.path.realpath(sys.executable)
    return seal.mounted(own) if os.geteuid() == 0 else own


def text() -> str:
    """The program file's text."""
    return f"#!{interpreter()} {archive.FLAGS}\n" + archive.boot(f"sys.path += {directories()!r}")


def write(path: str) -> None:
    """Put the program at this path, whole or not at all, and pack the package. Raises OSError."""
    pack.main()
    half = f"{path}.{os.getpid()}"
    with open(half, "w", encoding="utf-8", opener=_executable) as file:
        file.write(text())
    os.replace(half, path)


def _executable(path: str, flags: int) -> int:
    return os.open(path, flags, 0o755)


if __name__ == "__main__":
    try:
        [destination] = sys.argv[1:]
    except ValueError:
        sys.exit("usage: python -m pycontain.cli.launcher DEST")
    try:
        write(destination)
    except (OSError, PycontainError) as error:
        sys.exit(f"pycontain: {fault_of(error).line()}")
