"""
JSON with only the C accelerators of the standard library.

`import json` costs 9 ms because it imports the regular expressions; the scanner and the encoder
behind it (`_json`) cost 1 ms. If a text is broken, the whole package is imported after all, to
report where.
"""

from __future__ import annotations

import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn


_INFINITY = float("inf")


class _Rules:
    """The attributes that the C scanner needs, as in `json.JSONDecoder`."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_int = int
    memo: dict[str, str] = {}

    @staticmethod
    def parse_float(text: str) -> float:
        number = float(text)
        if abs(number) == _INFINITY:  # 1e999: JSON cannot represent infinity
            raise ValueError(f"{text} is too large")
        return number

    @staticmethod
    def parse_constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is not JSON")


def _unknown(value: object) -> NoReturn:
    raise TypeError(f"{type(value).__name__} has no JSON form")


_scan = _json.make_scanner(_Rules)  # type: ignore[arg-type]
_encode = _json.make_encoder(
    None, _unknown, _json.encode_basestring_ascii, None, ":", ",", False, False, False
)


def loads(text: str) -> object:
    """
    The value of a JSON text.

    Raises ValueError with line and column where the text is broken.
    """
    start = len(text) - len(text.lstrip(" \t\r\n"))
    try:
        value, end = _scan(text, start)
    except (StopIteration, ValueError, RecursionError, SystemError):  # 3.11 sets no error on "{"
        _explain(text)
    if text[end:].strip(" \t\r\n"):
        _explain(text)
    return value


def object_of(data: bytes) -> dict[str, object]:
    """The object in these bytes, from another process. Raises ValueError for anything else."""
    value = loads(data.decode())
    if not isinstance(value, dict):
        raise ValueError("is not an object")
    return value


def fits(value: object, shape: object) -> bool:
    """
    Whether a value from JSON has this shape.

        str, int, object          exactly this type (true is not an int); anything
        [str]                     a list of such values
        (str, int)                a list of exactly these
        {"key": str}, {str: int}  an object with exactly these keys; with any keys
        {str, None, "x"}          one of these; null and text stand for themselves
    """
    if isinstance(shape, type):
        return shape is object or type(value) is shape
    if isinstance(shape, set):
        return any(fits(value, each) for each in shape)
    if isinstance(shape, (list, tuple)):
        if not isinstance(value, list):
            return False
        shapes = shape * len(value) if isinstance(shape, list) else shape
        return len(value) == len(shapes) and all(map(fits, value, shapes))
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return False
        fields = dict.fromkeys(value, shape[str]) if str in shape else shape
        return value.keys() == fields.keys() and all(fits(value[key], fields[key]) for key in value)
    return value == shape


def _explain(text: str) -> NoReturn:
    import json

    try:
        json.loads(text, parse_constant=_Rules.parse_constant, parse_float=_Rules.parse_float)
    except RecursionError:
        raise ValueError("the nesting is too deep") from None
    raise ValueError("the text is not JSON")  # json accepts it, the C scanner did not: refuse


def dumps(value: object) -> str:
    """One line of ASCII JSON. Raises TypeError for a value that has no JSON form."""
    return "".join(_encode(value, 0))


def pretty(value: object) -> str:
    """JSON indented by two spaces, for people."""
    return "".join(_pretty(value, "\n"))


def _pretty(value: object, newline: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        items = [(dumps(str(key)) + ": ", inner) for key, inner in value.items()]
        yield from _block("{", items, "}", newline)
    elif isinstance(value, (list, tuple)) and value:
        yield from _block("[", [("", inner) for inner in value], "]", newline)
    else:
        yield dumps(value)


def _block(
    opening: str, items: list[tuple[str, object]], closing: str, newline: str
) -> Iterator[str]:
    indented = newline + "  "
    yield opening
    for number, (head, value) in enumerate(items):
        yield ("," if number else "") + indented + head
        yield from _pretty(value, indented)
    yield newline + closing
