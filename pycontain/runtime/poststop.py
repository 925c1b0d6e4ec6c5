"""The poststop hooks, after everything else of a container is gone. config.md, Poststop."""

from __future__ import annotations

from ..errors import HookError
from ..wire.state import public_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..spec.records import Spec
    from ..wire.state import State


def run(spec: Spec, state: State, warn: Callable[[str], None]) -> None:
    """Run them all; one that fails is a warning, as the specification has it (runtime.md, 13)."""
    if spec.hooks is None:
        return
    from ..wire.hooks import run_hook

    for hook in spec.hooks.poststop:
        try:
            run_hook(hook, "poststop", public_state(state, "stopped", 0), state.bundle)
        except HookError as error:
            warn(str(error))
