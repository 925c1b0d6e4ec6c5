"""The parent's step for the notification socket."""

from __future__ import annotations

from ..kernel.sdnotify import Proxy
from ..lean import os
from ..plan.sdnotify import SOCKET
from ..plan.steps import sdnotify
from ..plan.walk import parent_step
from ..state.directory import NOTIFY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .launch import ContainerLaunch


@parent_step(sdnotify.MakeNotifyDirectory)
def make_notify_directory(step: sdnotify.MakeNotifyDirectory, launch: ContainerLaunch) -> None:
    """Create the directory, open to all users of the container; it is removed with the state."""
    path = launch.directory.file(NOTIFY)
    os.mkdir(path, 0o755)
    os.chmod(path, 0o755)  # whatever the umask
    if step.listens:
        launch.proxy = Proxy(path, SOCKET)
