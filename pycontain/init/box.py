"""What a container's first process carries from one step to the next."""

from __future__ import annotations

from ..kernel.root import Root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..wire.sync import Channel


class Box:
    """
    The child's working state. Descriptors here live until execve closes them.

    channel        to the parent
    start          the FIFOs at which the child waits for `start`; None for run and exec
    namespaces     CLONE_NEW* -> descriptor, of those to join
    console        where the terminal's master is sent; -1 without a terminal
    seccomp        the compiled system call filter
    hook_state     the state that hooks are told, less status and pid
    root           the root file system, from the step that binds it
    program        the path that execve gets, from the step that finds it
    """

    __slots__ = (
        "channel", "console", "hook_state", "namespaces", "program", "root", "seccomp", "start",
    )  # fmt: skip

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.start: Channel | None = None
        self.namespaces: dict[int, int] = {}
        self.console = -1
        self.seccomp = b""
        self.hook_state: dict[str, object] = {}
        self.root: Root | None = None
        self.program = ""

    @property
    def inside(self) -> Root:
        """The root file system. Only steps after the one that binds it ask."""
        assert self.root is not None
        return self.root
