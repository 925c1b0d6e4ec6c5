"""
The volumes of an image: directories that are not part of the root file system, and writable.

Each is a directory of the container's own, filled with what the image has in its place, and removed
with the container. Source: the OCI image specification, conversion.md, Config.Volumes.
"""

from __future__ import annotations

import os
import stat

from ..kernel.root import Root
from . import tools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_OPEN_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def mounts(image: int, places: Iterable[str], directory: str) -> tuple[dict[str, object], ...]:
    """
    The mounts of volumes for these places.

    image      a descriptor of its root
    directory  where they are made
    """
    found: list[dict[str, object]] = []
    for number, place in enumerate(places):
        path = os.path.join(directory, f"volume{number}")
        os.mkdir(path, 0o755)
        _fill(image, place, path)
        options = ["bind", "rprivate", "nosuid", "nodev"]
        found.append({"destination": place, "type": "bind", "source": path, "options": options})
    return tuple(found)


def _fill(image: int, place: str, path: str) -> None:
    """Copy what the image has there, with its owners and modes."""
    source = Root(image).find(place)
    if source is None:
        return
    target = os.open(path, _OPEN_DIRECTORY)
    try:
        if stat.S_ISDIR(os.fstat(source).st_mode):
            tools.copy_tree(source, target)
    finally:
        os.close(source)
        os.close(target)
