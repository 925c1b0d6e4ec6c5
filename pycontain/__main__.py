"""`python -m pycontain`."""

from __future__ import annotations

from .cli.fast import program

if __name__ == "__main__":
    program()
