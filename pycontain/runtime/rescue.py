"""
What a runtime becomes whose child was killed while it borrowed its memory.

That memory may be half written, so nothing more is done with it: the process executes a new Python,
which removes the container.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def command(root: str, id: str) -> tuple[str, ...]:
    """The command line that calls main in another Python, with the import path of this."""
    code = f"import sys; sys.path = {sys.path!r}; from {__name__} import main; main()"
    return (sys.executable, "-ISB", "-c", code, root, id)


def main() -> NoReturn:
    """Remove the container that the command line names, and say why."""
    from ..errors import PycontainError, StepError
    from .delete import delete
    from .options import Options, to_stderr

    root, name = sys.argv[1:]
    try:
        delete(Options(root=root), name, force=True)
    except (PycontainError, OSError) as error:
        to_stderr(f"{name} cannot be removed: {error}")
    death = StepError(
        "was killed while it was set up",
        at="the container's first process",
        remedy="look for the reason in the kernel log, such as the out-of-memory killer",
    )
    sys.exit(f"pycontain: {death}")
