"""The options of a whole invocation."""

from __future__ import annotations

from .lean import os
from .lean.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def to_stderr(text: str) -> None:
    """Print a warning."""
    os.write(2, f"pycontain: warning: {text}\n".encode())


class Options(Record):
    """
    The global options of the command line.

    root            where the state of containers is kept
    cgroup_manager  "cgroupfs", or "disabled": containers stay in the caller's cgroup
    debug           print more
    log             the file that errors and warnings go to, "" for standard error alone
    log_format      "text" or "json"
    warn            called with each warning
    """

    root: str = "/run/pycontain"
    cgroup_manager: str = "cgroupfs"
    debug: bool = False
    log: str = ""
    log_format: str = "text"
    warn: Callable[[str], None] = to_stderr
