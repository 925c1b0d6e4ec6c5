"""/proc/PID/mountinfo as records. See proc_pid_mountinfo(5)."""

from __future__ import annotations

from typing import NamedTuple


class Mounted(NamedTuple):
    """One mount: its own options, its propagation, and the file system's kind and options."""

    root: str
    options: frozenset[str]
    propagation: frozenset[str]
    kind: str
    source: str
    superblock: frozenset[str]


def read(text: str) -> dict[str, Mounted]:
    """The mounts by mount point; of several on one point only the last, which is visible."""
    found = {}
    for line in text.splitlines():
        head, _, tail = line.partition(" - ")
        _, _, _, root, point, options, *optional = head.split(" ")
        kind, source, superblock = tail.split(" ")
        found[point] = Mounted(
            root=root,
            options=frozenset(options.split(",")),
            propagation=frozenset(word.partition(":")[0] for word in optional),
            kind=kind,
            source=source,
            superblock=frozenset(superblock.split(",")),
        )
    return found
