"""`pycontain run`: a module of its own, because engines take this way (CONTRIBUTING, habit 7)."""

from __future__ import annotations

from ..runtime.run import run as run_container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..runtime.options import Options
    from .table import Value


def run(options: Options, id: str, *, timing: bool, **flags: Value) -> int:
    """Run a container; returns its program's exit status. --timing tells each step's time."""
    function: Callable[..., int] = run_container  # the table's keywords are checked by a test
    return function(options, id, on_timing=_show if timing else None, **flags)


def _show(timings: list[tuple[str, str, int]]) -> None:
    from .render import timings as show

    show(timings)
