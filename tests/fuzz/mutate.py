"""Configurations with a few things wrong, from a seed."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

Way = tuple[str | int, ...]

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 7, 2**31, 2**32 - 1, 2**63, 2**64, -(2**63), 10**40, 0.5, 1e300,
    "", "/", ".", "..", "/..", "../..", "/proc", "/dev/null", "/proc/self", "a\nb", "é", "\udc80",
    "x" * 300, "x/" * 2100, "=", "A=b", "true", "rbind", "ro", "bind", "proc", "tmpfs", "mode=9",
    "CAP_KILL", "RLIMIT_CORE", "pid", "mount", "private", "shared", "SCMP_ACT_KILL", "2MB", "max",
    [], {}, [None], [""], [[]], [{}], {"": None}, {"path": "/"}, {"type": "mount"}, ["x"] * 40,
)  # fmt: skip
"""What is put into random places: wrong types, limits of integers, paths that lead elsewhere."""


def places(value: Any, way: Way = ()) -> Iterator[Way]:
    """The way to every value in a configuration: keys and indexes."""
    yield way
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*way, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*way, index))


def mutated(chance: random.Random, config: dict[str, Any]) -> dict[str, Any]:
    """A copy with one to four changes: a value replaced, removed, repeated or moved."""
    made = copy.deepcopy(config)
    for _ in range(chance.choice((1, 1, 2, 4))):
        *way, last = chance.choice([way for way in places(made) if way])
        place = made
        for key in way:
            place = place[key]
        change = chance.randrange(8)
        if change == 0:
            del place[last]
        elif change == 1 and isinstance(place, list):
            place.insert(last, copy.deepcopy(place[last]))
        elif change == 2 and isinstance(place, list):
            place.append(place.pop(last))
        elif change == 3 and isinstance(place, dict):
            place["unknown"] = place[last]
        else:
            place[last] = copy.deepcopy(chance.choice(VALUES))
    return made
