"""The descriptors that a caller passes on to the program."""

from __future__ import annotations

from ..errors import UsageError
from ..lean import os


def check_preserved(count: int, activated: int = 0) -> None:
    """
    Raises UsageError unless the descriptors to preserve are open, and were passed by the caller.

    activated  how many of them, the first, are sockets that systemd passes

    Our own descriptors are all close-on-exec; those inherited through execve(2) are not.
    """
    if count < 0:
        raise UsageError("is less than 0", at="--preserve-fds", value=str(count))
    for fd in range(3, 3 + count):
        try:
            passed = os.get_inheritable(fd)
        except OSError:
            passed = False
        if not passed:
            systemds = fd < 3 + activated
            raise UsageError(
                f"includes descriptor {fd}, which is not open",
                at="LISTEN_FDS" if systemds else "--preserve-fds",
                value=str(activated if systemds else count - activated),
            )
