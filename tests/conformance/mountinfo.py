"""What /proc/PID/mountinfo says, as records. proc_pid_mountinfo(5)."""

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
    """The mounts by mount point; of those on one point the last, which is the one that is seen."""
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
