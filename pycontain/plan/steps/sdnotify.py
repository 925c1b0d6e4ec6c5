"""The step that lets the program notify systemd. sd_notify(3)."""

from __future__ import annotations

from .base import ParentStep


class MakeNotifyDirectory(ParentStep):
    """The directory to mount, in which the runtime creates the socket when it listens."""

    name = "notify directory"
    listens: bool = False  # already now, not only at `start`

    def what(self) -> str:
        return "create the directory of the notification socket"
