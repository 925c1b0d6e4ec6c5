"""The poststart hooks. config.md, POSIX-platform Hooks."""

from __future__ import annotations

from ..kernel.wait import FOREVER
from ..state.record import public_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.wait import Until
    from ..spec.records import Spec
    from ..state.record import State


def run(spec: Spec, state: State, until: Until = FOREVER) -> None:
    """Run all hooks. Raises HookError if one fails, which is an error since 1.3."""
    if spec.hooks is None:
        return
    from .. import hooks

    shown = public_state(state, "running", state.pid)
    hooks.run_all(spec.hooks.poststart, "poststart", shown, state.bundle, until=until)
