"""The flags of `pycontain update` as the resources of a configuration (config-linux.md)."""

from __future__ import annotations

from .. import jsontext
from ..errors import UsageError

_BYTES = {
    "memory": "memory.limit",
    "memory_reservation": "memory.reservation",
    "memory_swap": "memory.swap",
}
_NUMBERS = {
    "blkio_weight": "blockIO.weight",
    "cpu_period": "cpu.period",
    "cpu_quota": "cpu.quota",
    "cpu_burst": "cpu.burst",
    "cpu_share": "cpu.shares",
    "cpu_rt_period": "cpu.realtimePeriod",
    "cpu_rt_runtime": "cpu.realtimeRuntime",
    "cpu_idle": "cpu.idle",
    "pids_limit": "pids.limit",
}
_TEXTS = {"cpuset_cpus": "cpu.cpus", "cpuset_mems": "cpu.mems"}
_UNITS = "kmgtp"


def resources(flags: dict[str, object]) -> dict[str, object]:
    """
    What these flags ask for; a flag that was not given (None or "") changes nothing.

    Raises UsageError for an amount of memory that cannot be understood.
    """
    tree: dict[str, dict[str, object]] = {}
    for key, place in (_BYTES | _NUMBERS | _TEXTS).items():
        value = flags[key]
        if value is None or value == "":
            continue
        group, name = place.split(".")
        if key in _BYTES:
            value = size(str(value), "--" + key.replace("_", "-"))
        tree.setdefault(group, {})[name] = value
    return dict(tree)


def size(text: str, at: str) -> int:
    """
    Bytes of a text such as 512m, 1.5GiB, 4096 or -1; units are powers of 1024.

    Raises UsageError.
    """
    if text == "-1":
        return -1
    number = text.lower().removesuffix("b").removesuffix("i")
    unit = number[-1:]
    power = _UNITS.find(unit) + 1 if unit else 0
    digits = number.rstrip(_UNITS) if power else number
    whole, _, fraction = digits.strip().partition(".")
    plain = (whole + fraction).isdecimal() and digits.isascii() and whole
    if not plain or len(number) - len(digits) > 1:
        raise UsageError(
            "is not an amount of memory", at=at, value=text, remedy="write 512m, 2g or bytes"
        )
    return int(float(digits) * 1024**power) if fraction else int(whole) * 1024**power


def read(text: str, at: str) -> dict[str, object]:
    """The resources in this JSON text. Raises UsageError that names the file."""
    try:
        value = jsontext.loads(text)
    except ValueError as error:
        raise UsageError(f"is not JSON: {error}", at=at) from None
    if not isinstance(value, dict):
        raise UsageError("is not a JSON object", at=at)
    return value
