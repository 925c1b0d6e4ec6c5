"""Commands for all containers whose id a regular expression matches, as with crun's --regex."""

from __future__ import annotations

from ..errors import PycontainError, StateError, UsageError, fault_of
from ..state.directory import ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..options import Options


def for_each(options: Options, pattern: str, command: Callable[[str], None]) -> None:
    """
    Call a command with the id of each container that the pattern matches somewhere (re.search).

    If it fails for one, it is still called for the others: the first error is raised at the end,
    further ones are warnings. Raises UsageError for a bad pattern, StateError if no id matches.
    """
    import re

    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"is not a regular expression: {error}", value=pattern) from None
    matches = [each for each in ids(options.root) if expression.search(each)]
    if not matches:
        raise StateError("matches no container", at="--regex", value=pattern)
    failed: PycontainError | None = None
    for each in matches:
        try:
            command(each)
        except PycontainError as error:
            if failed is not None:
                options.warn(fault_of(error).line())
            failed = failed or error
    if failed is not None:
        raise failed
