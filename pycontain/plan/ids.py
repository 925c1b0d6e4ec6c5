"""Which ids of the host those of a user namespace, or of a mount, are. user_namespaces(7)."""

from __future__ import annotations

from ..errors import StepError
from ..lean.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from ..spec.rare_records import IdMapping

    Map: TypeAlias = tuple[tuple[int, int, int], ...]  # (first inside, first outside, how many)


class Ids(Record):
    """The two maps of a user namespace."""

    uids: Map
    gids: Map

    def uid(self, inside: int) -> int:
        """The host's uid. Raises StepError for one that is not mapped."""
        return _outside(self.uids, inside, "uid")

    def gid(self, inside: int) -> int:
        """The host's gid. Raises StepError for one that is not mapped."""
        return _outside(self.gids, inside, "gid")

    def has(self, uid: int, gid: int) -> bool:
        """Whether an owner inside can be the owner of a file there."""
        return any(_is_in(uid, each) for each in self.uids) and any(
            _is_in(gid, each) for each in self.gids
        )

    def __str__(self) -> str:
        return f"uids {_shown(self.uids)}; gids {_shown(self.gids)}"


def ids_of(uids: tuple[IdMapping, ...], gids: tuple[IdMapping, ...]) -> Ids:
    """The maps that a configuration lists."""
    return Ids(uids=_map(uids), gids=_map(gids))


def _map(mappings: tuple[IdMapping, ...]) -> Map:
    return tuple((each.containerID, each.hostID, each.size) for each in mappings)


def _outside(mapped: Map, inside: int, kind: str) -> int:
    for each in mapped:
        if _is_in(inside, each):
            return each[1] + inside - each[0]
    raise StepError("is not mapped into the user namespace", at=kind, value=str(inside))


def _is_in(inside: int, line: tuple[int, int, int]) -> bool:
    return line[0] <= inside < line[0] + line[2]


def _shown(mapped: Map) -> str:
    return ", ".join(
        f"{first}-{first + size - 1} as {outside}-{outside + size - 1}"
        for first, outside, size in mapped
    )
