"""Run a program on an engine of vm/, in a process of its own: ENGINE PROGRAM..."""

from __future__ import annotations

import os
import sys

from ..errors import PycontainError
from ..vm.commands import environment
from ..vm.program import World, run_program


def main() -> int:
    """Run it, and return the exit status of the program."""
    engine, *arguments = sys.argv[1:]
    world = World(root="/", cwd=os.getcwd())  # the files that the program has natively
    try:
        result = run_program(arguments, environment(), world, engine=engine)
    except PycontainError as error:
        os.write(2, f"pycontain: {error}\n".encode())
        return error.fault.status
    if result.ending.fault:
        os.write(2, f"{result.ending.fault}\n".encode())
    return result.ending.status
