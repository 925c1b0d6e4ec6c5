"""
Parse JSON text into the records of `records.py`; errors contain the JSON path.

Unknown properties are ignored, as the specification requires (config.md, Extensibility); unknown
values are errors. Go's encoding/json, with which engines write and runc reads, does not distinguish
a property that is missing, null or (if it is text) empty, so neither does this parser:

    null as a property, or "" in place of text     unset; a required property is then missing
    null in a list or a map                        "", or an object with nothing set
    null in a list of numbers                      an error, where Go reads 0: the root group
"""

from __future__ import annotations

from ..errors import SpecError
from ..lean import jsontext
from ..lean.record import Record
from . import names, records
from .problem import keyed, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, TypeVar

    Reader = Callable[[object, str], object]
    Field = tuple[str, str, Reader, str | None]
    R = TypeVar("R", bound=Record)

_FILE = "config.json"
_CHOICES = {
    "DeviceType": ("c", "b", "u", "p"),
    "DeviceRuleType": ("a", "b", "c"),
    "IoClass": tuple(names.IO_CLASSES),
    "MemoryMode": (
        "MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE",
        "MPOL_PREFERRED", "MPOL_PREFERRED_MANY", "MPOL_LOCAL",
    ),
    "NamespaceType": ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"),
    "PersonalityDomain": tuple(names.PERSONALITIES),
    "Propagation": (
        "shared", "slave", "private", "unbindable",
        "rshared", "rslave", "rprivate", "runbindable",
    ),
    "SchedulerPolicy": tuple(names.SCHEDULER_POLICIES),
    "SeccompAction": tuple(names.SECCOMP_ACTIONS),
    "SeccompOperator": tuple(names.SECCOMP_OPERATORS),
}  # fmt: skip

_REMEDIES = {  # for values of another type
    "a list": "write it in [ ]",
    "an object": "write it as { }",
    "a string": "write it in quotes",
    "a whole number": "write digits, without quotes",
    "true or false": "write it without quotes",
}

_RANGES = {
    "Int32": (-(2**31), 2**31 - 1),
    "Int64": (-(2**63), 2**63 - 1),
    "Uint16": (0, 2**16 - 1),
    "Uint32": (0, 2**32 - 1),
    "Uint64": (0, 2**64 - 1),
    "Id": (0, 2**32 - 2),  # 2**32 - 1 means "unchanged" to setresuid(2) and chown(2)
}


def parse(text: str) -> records.Spec:
    """
    The configuration in this JSON text.

    Raises SpecError that names the JSON path, the value and the reason.
    """
    return read_text(records.Spec, text, "")


def read_text(cls: type[R], text: str, at: str) -> R:
    """A record of this class from JSON text, such as a process for `exec --process`."""
    return read(cls, document(text, at or _FILE), at)


def document(text: str, at: str = _FILE) -> dict[str, object]:
    """The object in a JSON text. Raises SpecError that names the file."""
    try:
        value = jsontext.loads(text)
    except ValueError as error:
        why, remedy = f"is not JSON: {error}", "correct it there, or just before"
        if not text.strip():
            why, remedy = "is not JSON: it is empty", "`pycontain spec` writes a complete one"
        raise SpecError(why, at=at, remedy=remedy) from None
    if not isinstance(value, dict):
        _wrong("an object", value, at)
    return value


def read(cls: type[R], value: object, at: str) -> R:
    """A record of this class from a JSON value found at this path."""
    if type(value) is not dict:
        _wrong("an object", value, at or _FILE)
    fields: dict[str, object] = {"at": at}
    prefix = f"{at}." if at else ""
    for key, name, reader, unset in _fields(cls):
        inner = value.get(key)
        if inner is not None and inner != unset:
            fields[name] = reader(inner, prefix + key)
        elif name not in cls.DEFAULTS:
            why = "is required but missing" if inner is None else "is required but empty"
            raise SpecError(why, at=prefix + key, remedy="add it; `pycontain spec` has an example")
    return cls(**fields)


_known_fields: dict[type[Record], tuple[Field, ...]] = {}


def _fields(cls: type[Record]) -> tuple[Field, ...]:
    """(JSON key, attribute, reader, value that means unset besides null) of a record, cached."""
    if cls not in _known_fields:
        _known_fields[cls] = tuple(
            (name.rstrip("_"), name, _reader(annotation), "" if _is_text(annotation) else None)
            for name, annotation in cls.FIELDS.items()
            if name != "at"
        )
    return _known_fields[cls]


def _is_text(annotation: str) -> bool:
    kind = annotation.removesuffix(" | None")
    return kind == "str" or kind in _CHOICES


def _reader(annotation: str) -> Reader:
    """The reader for an annotation."""
    if annotation.endswith(" | None"):
        return _reader(annotation.removesuffix(" | None"))
    if annotation.startswith("tuple["):
        return _list_of(*_element(annotation[len("tuple[") : -len(", ...]")]))
    if annotation.startswith("dict[str, "):
        return _map_of(*_element(annotation[len("dict[str, ") : -1]))
    if annotation in _CHOICES:
        return _one_of(_CHOICES[annotation])
    if annotation in _RANGES:
        return _integer(*_RANGES[annotation])
    if annotation == "bool":
        return _boolean
    if annotation == "str":
        return _string
    return lambda value, at: read(getattr(records, annotation), value, at)


def _element(annotation: str) -> tuple[Reader, object]:
    """The reader for the elements of a list or a map, and what it reads for null."""
    if annotation in _RANGES:
        return _reader(annotation), None
    return _reader(annotation), "" if _is_text(annotation) else {}


def _wrong(expected: str, value: object, at: str) -> NoReturn:
    raise SpecError(
        f"is not {expected}", at=at, value=shown(value), remedy=_REMEDIES.get(expected, "")
    )


def _string(value: object, at: str) -> str:
    if type(value) is not str:
        _wrong("a string", value, at)
    if "\0" in value:
        _wrong("a string without NUL", value, at)
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate: JSON can express it ("\ud800"), UTF-8 cannot
        _wrong("valid Unicode", value, at)
    return value


def _boolean(value: object, at: str) -> bool:
    if type(value) is not bool:
        _wrong("true or false", value, at)
    return value


def _integer(low: int, high: int) -> Reader:
    def reader(value: object, at: str) -> int:
        if type(value) is not int:
            _wrong("a whole number", value, at)
        if not low <= value <= high:
            _wrong(f"between {low} and {high}", value, at)
        return value

    return reader


def _one_of(choices: tuple[str, ...]) -> Reader:
    def reader(value: object, at: str) -> str:
        if value not in choices:
            _wrong(f"one of {', '.join(choices)}", value, at)
        return str(value)

    return reader


def _list_of(reader: Reader, null: object) -> Reader:
    def read_list(value: object, at: str) -> tuple[object, ...]:
        if type(value) is not list:
            _wrong("a list", value, at)
        return tuple(
            reader(null if inner is None else inner, f"{at}[{index}]")
            for index, inner in enumerate(value)
        )

    return read_list


def _map_of(reader: Reader, null: object) -> Reader:
    def read_map(value: object, at: str) -> dict[str, object]:
        if type(value) is not dict:
            _wrong("an object", value, at)
        return {
            _string(key, at): reader(null if inner is None else inner, keyed(at, key))
            for key, inner in value.items()
        }

    return read_map
