"""
Immutable records, without the 24 ms that importing dataclasses takes.

The annotations of a class are its fields:

    class Rlimit(Record):
        type: str
        soft: int
        hard: int = 0

    Rlimit(type="RLIMIT_NOFILE", soft=1024)

Type checkers see a frozen keyword-only dataclass (PEP 681). The annotations are kept as text
(`from __future__ import annotations` is required), where `pycontain.spec.parse` reads them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar, NoReturn, Self, dataclass_transform
else:

    def dataclass_transform(**_: object):
        return lambda cls: cls


_fill = object.__setattr__  # records are read-only: only __init__ sets fields


class _RecordType(type):
    """Turns annotations into fields and class-level values into defaults."""

    def __new__(meta, name: str, bases: tuple[type, ...], space: dict[str, object]) -> _RecordType:
        # as little as possible: a hundred record classes are created at each start
        own: dict[str, str] = space.get("__annotations__", {})  # type: ignore[assignment]
        defaults = {key: space.pop(key) for key in own if key in space}
        if bases:
            own = {**bases[0].FIELDS, **own}  # type: ignore[attr-defined]
            defaults = {**bases[0].DEFAULTS, **defaults}  # type: ignore[attr-defined]
        space["FIELDS"] = own
        space["DEFAULTS"] = defaults
        return super().__new__(meta, name, bases, space)


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Record(metaclass=_RecordType):
    """
    The base of all records: keyword-only, compared by value, read-only.

    Raises TypeError for a field that is missing or unknown.
    """

    if TYPE_CHECKING:  # at run time every annotation is a field
        FIELDS: ClassVar[dict[str, str]]
        DEFAULTS: ClassVar[dict[str, object]]

    def __init__(self, **given: object) -> None:
        values = {**self.DEFAULTS, **given}
        if values.keys() != self.FIELDS.keys():
            missing = [name for name in self.FIELDS if name not in values]
            if missing:
                raise TypeError(f"{type(self).__name__} needs {missing[0]!r}")
            unknown = ", ".join(name for name in given if name not in self.FIELDS)
            raise TypeError(f"{type(self).__name__} has no {unknown}")
        _fill(self, "__dict__", values)  # no slots: a class with some takes longer to create

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is read-only: use replace() to set {name}")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.fields() == other.fields()

    def __hash__(self) -> int:
        return hash((type(self), *self.fields().values()))

    def __reduce__(self) -> tuple[object, ...]:
        return _made, (type(self), self.fields())  # pickle and copy would call no __init__

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={value!r}" for name, value in self.fields().items())
        return f"{type(self).__name__}({inner})"

    def fields(self) -> dict[str, object]:
        """Each field's name and value, in order."""
        return {name: getattr(self, name) for name in self.FIELDS}

    def replace(self, **changes: object) -> Self:
        """The same record with some fields changed."""
        return type(self)(**{**self.fields(), **changes})


def _made(kind: type[Record], fields: dict[str, object]) -> Record:
    """What a pickled record is made from."""
    return kind(**fields)
