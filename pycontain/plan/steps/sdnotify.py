"""The step that lets the program notify systemd. sd_notify(3)."""

from __future__ import annotations

from .base import ParentStep


class MakeNotifyDirectory(ParentStep):
    """The directory that is mounted for the socket, which exists while somebody listens."""

    name = "notify directory"
    listens: bool = False  # from now on

    def what(self) -> str:
        return "create the directory of the notification socket"
