"""Bundles for tests of user namespaces, which map the container's ids to others on the host."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from tests.bundles import Bundle, Bundles

FIRST, SIZE = 654_000_000, 65_536  # on the host: ids that nobody has
MAPPING = {"containerID": 0, "hostID": FIRST, "size": SIZE}
MAPPINGS = {"linux.uidMappings": [MAPPING], "linux.gidMappings": [MAPPING]}
KINDS = ("pid", "network", "ipc", "uts", "mount", "cgroup")
NAMESPACES: list[dict[str, str]] = [{"type": kind} for kind in (*KINDS, "user")]

Mapped: TypeAlias = Callable[..., Bundle]


def give(folder: Path, first: int = FIRST) -> None:
    """Make the container's root the owner of a folder and of all that is in it."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, first, first, follow_symlinks=False)


def bundle_with_user(
    bundle: Bundles, script: str = "", changes: Mapping[str, Any] | None = None
) -> Bundle:
    """A bundle with a user namespace and a rootfs that belongs to its root."""
    mapped = bundle(script, {"linux.namespaces": NAMESPACES, **MAPPINGS, **(changes or {})})
    give(mapped.rootfs)
    return mapped
