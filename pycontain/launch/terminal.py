"""The parent connects to the socket that receives a terminal."""

from __future__ import annotations

from ..kernel import sockets
from ..plan.steps import terminal
from ..plan.walk import parent_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .launch import Launch


@parent_step(terminal.ConnectConsole)
def connect_console(step: terminal.ConnectConsole, launch: Launch) -> None:
    """Connect to the socket that receives the terminal's master."""
    launch.console = sockets.connect(step.path)
