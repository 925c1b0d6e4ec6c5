"""Sizes and durations as written on a command line: 512m, 1m30s."""

from __future__ import annotations

from .errors import UsageError

_SIZES = "kmgtp"
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def size(text: str, at: str) -> int:
    """
    The bytes in a text such as 512m, 1.5GiB or 4096; units are powers of 1024.

    Raises UsageError.
    """
    number = text.lower().removesuffix("b").removesuffix("i")
    unit = number[-1:]
    power = _SIZES.find(unit) + 1 if unit else 0
    digits = number.rstrip(_SIZES) if power else number
    whole, _, fraction = digits.strip().partition(".")
    plain = (whole + fraction).isdecimal() and digits.isascii() and whole
    if not plain or len(number) - len(digits) > 1:
        raise UsageError(
            "is not an amount of memory", at=at, value=text, remedy="write 512m, 2g or bytes"
        )
    return int(float(digits) * 1024**power) if fraction else int(whole) * 1024**power


def duration(text: str, at: str) -> float:
    """The seconds in a duration as Go writes it: 5s, 1m30s, 250ms. Raises UsageError."""
    import re

    parts = re.findall(r"([0-9.]+)(h|ms|us|ns|m|s)", text)
    try:
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    except ValueError:  # 1.2.3s
        seconds = 0.0
    if "".join(number + unit for number, unit in parts) != text or seconds <= 0:
        raise UsageError("is not a duration", at=at, value=text, remedy="write 5s, 1m30s or 250ms")
    return seconds
