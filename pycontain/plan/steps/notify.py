"""The steps of a filter that notifies an agent (SCMP_ACT_NOTIFY). seccomp_unotify(2)."""

from __future__ import annotations

from .base import ParentStep, Step


class ConnectListener(ParentStep):
    """Connect to the agent before a system call can wait for it."""

    name = "listener socket"
    path: str

    def what(self) -> str:
        return f"connect to {self.path}, which receives the notifications of the filter"


class SendListener(ParentStep):
    """
    The listener of the filter is taken from the process that has loaded it, and sent to the agent.

    That process cannot send it: its next system call may wait for the agent.
    """

    name = "listener"
    metadata: str = ""

    def what(self) -> str:
        return "send the listener of the filter to the agent"


class CloseListener(Step):
    """Only the agent has the listener: if it ends, system calls fail instead of waiting for it."""

    name = "close listener"

    def what(self) -> str:
        return "close the listener"
