"""`pycontain run`: a separate module, because engines use it (CONTRIBUTING, habit 7)."""

from __future__ import annotations

from ..runtime.run import run as run_container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..options import Options
    from ..plan.request import Request
    from ..plan.walk import Times


def run(options: Options, request: Request) -> int:
    """Run a container; returns its program's exit status. With timing, show each step's time."""
    return run_container(options, request, _show if request.timing else None)


def _show(times: Times) -> None:
    from .render import timings as show

    show(times)
