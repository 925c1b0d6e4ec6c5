"""Run a program on an engine of vm/, in a process of its own: ENGINE PROGRAM..."""

from __future__ import annotations

import os
import sys

from ..errors import PycontainError
from ..vm.program import World, run_program


def main() -> int:
    """Run it, and return the exit status of the program."""
    engine, *arguments = sys.argv[1:]
    environment = [f"{name}={value}" for name, value in os.environ.items()]
    try:
        result = run_program(arguments, environment, World(cwd=os.getcwd()), engine=engine)
    except PycontainError as error:
        os.write(2, f"pycontain: {error}\n".encode())
        return error.fault.status
    if result.ending.fault:
        os.write(2, f"{result.ending.fault}\n".encode())
    return result.ending.status
