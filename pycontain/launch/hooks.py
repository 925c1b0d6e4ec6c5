"""The parent runs hooks in its own namespaces."""

from __future__ import annotations

from .. import hooks
from ..plan.steps.hooks import RunHooks
from ..plan.walk import parent_step
from ..state.record import public_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .launch import ContainerLaunch


@parent_step(RunHooks)
def run_hooks(step: RunHooks, launch: ContainerLaunch) -> None:
    """Run hooks on the host; the bundle's directory is their working directory."""
    launch.hooks_ran = True
    state = public_state(launch.state, "creating", launch.state.pid)
    until = launch.caller.until
    hooks.run_all(step.hooks, step.kind, state, launch.state.bundle, until=until)
