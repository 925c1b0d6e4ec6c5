"""What holds for a whole invocation."""

from __future__ import annotations

from ..record import Record


class Options(Record):
    """
    The global options of the command line.

    root            where the state of containers is kept
    cgroup_manager  "cgroupfs", or "disabled": containers stay in the caller's cgroup
    debug           say more
    """

    root: str = "/run/pycontain"
    cgroup_manager: str = "cgroupfs"
    debug: bool = False
