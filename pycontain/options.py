"""The options of a whole invocation."""

from __future__ import annotations

from .lean import os
from .lean.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .errors import HostError


def to_stderr(text: str) -> None:
    """Print a warning."""
    os.write(2, f"pycontain: warning: {text}\n".encode())


def nowhere(text: str) -> None:
    """Drop a detail."""


class Options(Record):
    """
    The global options of the command line.

    root            where the state of containers is kept
    cgroup_manager  "cgroupfs", "systemd", or "disabled": containers stay in the caller's cgroup
    rootless        whether there are no rights of the host's root, so that cgroups are only where
                    they are delegated: "true", "false", or "auto" to find out
    cgroup_missing  what to do about a limit without a controller in cgroup v2: raise an "error", or
                    "warn" and run without it
    debug           print more
    log             the file that errors and warnings go to, "" for standard error alone
    log_format      "text" or "json"; "" for text in the log, and what people read elsewhere
    warn            called with each warning
    detail          called with each detail; nothing happens unless debug is set
    """

    root: str = "/run/pycontain"
    cgroup_manager: str = "cgroupfs"
    rootless: str = "auto"
    cgroup_missing: str = "error"
    debug: bool = False
    log: str = ""
    log_format: str = ""
    warn: Callable[[str], None] = to_stderr
    detail: Callable[[str], None] = nowhere

    def without_limit(self, error: HostError) -> None:
        """
        Raise the error of a limit that cannot be applied, or warn of it.

        The warning is shown even if there is a log: few read the log of a container that runs.
        """
        if self.cgroup_missing != "warn":
            raise error
        text = f"{error.fault.line()}; the container runs without this limit"
        self.warn(text)
        if self.log:
            to_stderr(text)
