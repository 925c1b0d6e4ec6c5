"""An image in the cache, which nobody can remove while a sandbox uses it."""

from __future__ import annotations

from ..image.store import Store
from ..kernel.descriptors import close_owned, release_lock


class Unpacked:
    """
    An unpacked image.

    rootfs  its directory
    env     the variables that its programs expect
    """

    def __init__(self, name: str) -> None:
        """Bring it, unless it is in the cache. Raises UsageError, HostError, StateError."""
        store = Store()
        image = store.get(name)
        self._used = store.use(image)
        self.rootfs = image.rootfs
        self.env = dict(entry.split("=", 1) for entry in image.config.env if "=" in entry)

    def close(self) -> None:
        """Give it up."""
        release_lock(self._used)
        close_owned(self, "_used")
