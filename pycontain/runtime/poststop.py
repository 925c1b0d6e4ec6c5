"""The poststop hooks, after everything else of a container is removed. config.md, Poststop."""

from __future__ import annotations

from ..state.record import public_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..spec.records import Spec
    from ..state.record import State


def run(spec: Spec, state: State, warn: Callable[[str], None]) -> None:
    """Run all hooks; a failure is only a warning, as specified (runtime.md, 13)."""
    if spec.hooks is None:
        return
    from .. import hooks

    shown = public_state(state, "stopped", 0)
    hooks.run_all(
        spec.hooks.poststop, "poststop", shown, state.bundle, lambda error: warn(str(error))
    )
