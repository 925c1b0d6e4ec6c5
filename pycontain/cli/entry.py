"""
The command as an installer of Python packages writes it: `main` is its entry point.

Such a program starts Python with the site module, the user's PYTHON* variables and no archive:
twice as long as the launcher takes. So its first use writes the archive, and the launcher in
its place (`setup`). Where that is not possible, because the program belongs to another user, it
loads the archive once Python has started.
"""

from __future__ import annotations

from ..lean import archive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command line of this process."""
    scope: dict[str, object] = {}
    exec(archive.beginning(), scope)  # noqa: S102
    if not scope["usable"]:
        from .setup import at_first_use

        at_first_use()
    from .fast import program

    program()
