"""Errors in values of config.json, with one wording for each kind."""

from __future__ import annotations

from ..errors import SpecError
from ..lean import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol, TypeAlias

    Problems: TypeAlias = Iterator[SpecError]

    class Located(Protocol):
        """A record that knows its JSON path."""

        @property
        def at(self) -> str:
            """The path, empty for the whole configuration."""


def problem(at: str, why: str, remedy: str, value: object = None) -> SpecError:
    """The error at a JSON path; a value of None is not shown."""
    return SpecError(why, at=at, value="" if value is None else shown(value), remedy=remedy)


def shown(value: object) -> str:
    """A JSON value for an error message: one line, not longer than 60 characters."""
    try:
        text = jsontext.dumps(value)
    except RecursionError:  # the stack is deeper here than where the value was read
        return "..."
    return text if len(text) <= 60 else text[:57] + "..."


def under(record: Located, key: str) -> str:
    """The JSON path of a property of a record."""
    return f"{record.at}.{key}" if record.at else key


def keyed(at: str, key: str) -> str:
    """The JSON path of a member of a map, on one line whatever the key."""
    return f"{at}[{key if key.isprintable() else jsontext.dumps(key)}]"


def each(record: Located, key: str) -> Iterator[tuple[str, str]]:
    """(JSON path, string) for every element of a property that is a list of strings, if any."""
    at = under(record, key)
    return ((f"{at}[{index}]", value) for index, value in enumerate(getattr(record, key) or ()))


def between(record: Located, key: str, low: int, high: int) -> Problems:
    """The problem of a number outside this range; None is ignored."""
    value = getattr(record, key)
    if value is not None and not low <= value <= high:
        why = f"is not between {low} and {high}"
        yield problem(under(record, key), why, f"use a number from {low} to {high}", value)


def absolute(at: str, path: str) -> Problems:
    """The problem of a path that is not absolute."""
    if not path.startswith("/"):
        yield problem(at, "is not an absolute path", "begin it with /", path)


def known(at: str, name: str, names: dict[str, int]) -> Problems:
    """The problem of a name that is not in this table."""
    if name not in names:
        yield problem(at, "is unknown", f"use one of {', '.join(names)}", name)
