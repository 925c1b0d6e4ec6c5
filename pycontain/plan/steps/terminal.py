"""The steps that make a terminal and hand it over."""

from __future__ import annotations

from .base import ParentStep, Step


class ConnectConsole(ParentStep):
    """Connect to the socket that receives the terminal, while its path still leads there."""

    name = "console socket"
    path: str

    def what(self) -> str:
        return f"connect to {self.path}, which receives the terminal's master"


class OpenTerminal(Step):
    """A terminal from the container's own devpts; its master is sent to the caller."""

    name = "terminal"
    rows: int = 0
    columns: int = 0
    uid: int = 0
    mount: bool = True  # make it /dev/console
    plain: bool = False  # newlines are not translated, since the output is not a terminal
    control: bool = True  # make it the controlling terminal; otherwise EnterPids does that

    def what(self) -> str:
        return "open a terminal, send its master" + ", make it /dev/console" * self.mount
