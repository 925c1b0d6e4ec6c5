"""
A loop as Jupyter's: each cell runs in a session, whose variables stay.

    python examples/loop.py

A cell ends with an empty line. `%files` lists /work, `%reset` begins anew, `%quit` or the end of
the input leaves.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pycontain


def cells() -> Iterator[str]:
    """What is typed, cell by cell."""
    lines: list[str] = []
    for line in sys.stdin:
        if line.startswith("%") and not lines:
            yield line.strip()
        elif line.strip():
            lines.append(line)
        elif lines:
            yield "".join(lines)
            lines = []
    if lines:
        yield "".join(lines)


def show(number: int, result: pycontain.SandboxResult) -> None:
    """Print a cell's output and value."""
    sys.stdout.write(result.text)
    sys.stdout.write(result.stderr.decode(errors="replace"))
    if result.shown:
        print(f"Out[{number}]: {result.shown}")


def main() -> None:
    """Run cells until the input ends."""
    number = 0
    typed = cells()
    with pycontain.Sandbox(timeout=30) as box:
        python = box.session()
        for cell in typed:
            if cell == "%quit":
                break
            if cell == "%files":
                print(*(entry.name for entry in box.list()), sep="\n")
                continue
            if cell != "%reset":
                number += 1
                result = python.run(cell)
                show(number, result)
                if not python.ended:
                    continue
                print(f"(the session has ended: {result.reason}, status {result.status})")
            python.close()
            python = box.session()
        python.close()


if __name__ == "__main__":
    main()
