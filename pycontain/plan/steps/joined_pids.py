"""The steps that create the program's process in a pid namespace that others are in."""

from __future__ import annotations

from .base import ParentStep, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .child import LoadSeccomp, SetCapabilities


class JoinPids(Step):
    """Children of this process will be in an existing pid namespace."""

    name = "join pids"

    def what(self) -> str:
        return "put children into the pid namespace that was opened"


class EnterPids(Step):
    """
    The program's process is created in the pid namespace, and the child, outside, exits.

    From its first moment it has what the program will have, and no more: identity, root, working
    directory, limits and descriptors, and two pipes. It has none of our memory. It performs the
    child's remaining steps.

    filter_       loaded inside, right after the session is created: outside, it would forbid the
                  calls that follow, or the parent could not find its listener
    capabilities  set after that. Without no_new_privs, loading a filter needs CAP_SYS_ADMIN, which
                  the process has until then
    """

    name = "enter"
    terminal: bool = False  # its standard input becomes its controlling terminal
    filter_: LoadSeccomp | None = None
    capabilities: SetCapabilities | None = None

    def what(self) -> str:
        more = ", a controlling terminal" * self.terminal
        if self.filter_ is not None:
            more += "; load the filter there"
        if self.capabilities is not None:
            more += ", with CAP_SYS_ADMIN until then"
        return f"create the program's process in the pid namespace, with its own session{more}"


class TakeOver(ParentStep):
    """The process that the child has created inside a pid namespace becomes the container's."""

    name = "take over"

    def what(self) -> str:
        return "wait for the program's process, and check that it is ours"
