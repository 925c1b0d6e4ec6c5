"""The poststop hooks, after everything else of a container is removed. config.md, Poststop."""

from __future__ import annotations

from ..errors import Interrupted, Timeout
from ..kernel.wait import FOREVER
from ..state.record import public_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..kernel.wait import Until
    from ..spec.records import Spec
    from ..state.record import State


def run(spec: Spec, state: State, warn: Callable[[str], None], until: Until = FOREVER) -> None:
    """
    Run all hooks; a failure is only a warning, as specified (runtime.md, 13).

    So is the end of `until`: the current hook is killed, and the others do not run.
    """
    if spec.hooks is None:
        return
    from .. import hooks

    shown = public_state(state, "stopped", 0)
    poststop, failed = spec.hooks.poststop, lambda error: warn(str(error))
    try:
        hooks.run_all(poststop, "poststop", shown, state.bundle, failed, until)
    except (Interrupted, Timeout) as error:
        warn(f"poststop hooks: {error}")
