"""
The standard streams of a program that somebody waits for: whose they are, before and after.

While it runs, pipes, sockets and files among them are its user's (`init.process`), who otherwise
could not open /dev/stdout. A file of the caller's is not to stay that user's.
"""

from __future__ import annotations

import errno

from .. import os

_STAYS = (errno.EBADF, errno.EINVAL, errno.EPERM, errno.EROFS)


class Kept:
    """Until the end of a `with` block they may be another user's; without `waits` for good."""

    def __init__(self, *, waits: bool = True) -> None:
        self.waits = waits
        self.owners: dict[int, int] = {}

    def __enter__(self) -> None:
        for stream in (0, 1, 2) if self.waits else ():
            try:
                self.owners[stream] = os.fstat(stream).st_uid
            except OSError:
                continue  # closed

    def __exit__(self, *_: object) -> None:
        for stream, uid in self.owners.items():
            try:
                if os.fstat(stream).st_uid != uid:
                    os.fchown(stream, uid, -1)
            except OSError as error:
                if error.errno not in _STAYS:
                    raise
