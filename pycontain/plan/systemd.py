"""
A container's cgroup as a unit of systemd: its name, its kind and its properties.

`linux.cgroupsPath` is "slice:prefix:name", as in runc. The unit is the scope prefix-name.scope in
that slice or, if the name ends in .slice, that slice itself. systemd sets the limits that it knows,
so that they survive `systemctl daemon-reload`; all of them are then written to the cgroup's files,
too. Device rules are not properties: systemd's have no way to express all of them.

Source: systemd.resource-control(5), systemd.slice(5), org.freedesktop.systemd1(5).
"""

from __future__ import annotations

from ..errors import SpecError
from ..lean.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TypeAlias

    from ..spec.records import Spec
    from .request import Request
    from .resources import Setting
    from .steps.unit import FindUnit, StartUnit

    Property: TypeAlias = tuple[str, tuple[str, object]]  # name, (D-Bus signature, value)

_AT = "linux.cgroupsPath"
_UNLIMITED = 2**64 - 1
_LETTERS = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.\\-@"
)  # systemd.unit(5)
_LONGEST = 255
_ANNOTATION = "org.systemd.property."


class Unit(Record):
    """
    A unit.

    name   with its ending
    slice  the slice that it is in
    """

    name: str
    slice: str

    @property
    def is_slice(self) -> bool:
        """Whether it is a slice, which can be without processes; a scope cannot."""
        return self.name.endswith(".slice")

    @property
    def path(self) -> str:
        """Its cgroup's path below that of the manager. Raises SpecError for a bad slice name."""
        above = _expanded(self.slice)
        return _expanded(self.name) if self.is_slice else f"{above}/{self.name}"


def unit_of(cgroups_path: str | None, id: str, *, user: bool) -> Unit:
    """The unit of a container. Raises SpecError for a path that does not name one."""
    default = "user.slice" if user else "system.slice"
    if not cgroups_path:
        name = id.replace("+", "\\x2b")  # unit names have no plus, and ids no backslash
        return _checked(Unit(name=f"pycontain-{name}.scope", slice=default), id)
    parts = cgroups_path.split(":")
    if len(parts) != 3 or not parts[2]:
        raise SpecError(
            "is not SLICE:PREFIX:NAME, as the cgroup manager systemd needs it",
            at=_AT,
            value=cgroups_path,
            remedy='write it like "system.slice:pycontain:NAME", or use the manager cgroupfs',
        )
    above, prefix, name = parts
    if not name.endswith(".slice"):
        name = f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    return _checked(Unit(name=name, slice=above or default), cgroups_path)


def _checked(unit: Unit, value: str) -> Unit:
    for name in (unit.name, unit.slice):
        if not _LETTERS.issuperset(name) or len(name) > _LONGEST:
            raise SpecError(f"makes {name!r}, which is not a unit name", at=_AT, value=value)
    for name in (unit.name, unit.slice) if unit.is_slice else (unit.slice,):
        _expanded(name)
    return unit


def _expanded(name: str) -> str:
    """a-b.slice as /a.slice/a-b.slice. systemd.slice(5)."""
    if name == "-.slice":
        return ""
    stem = name.removesuffix(".slice")
    parts = stem.split("-")
    if stem == name or not all(parts):
        raise SpecError("is not the name of a slice", at=_AT, value=name)
    return "".join(f"/{'-'.join(parts[: count + 1])}.slice" for count in range(len(parts)))


def unit_steps(
    spec: Spec, request: Request, settings: Iterable[Setting]
) -> tuple[FindUnit, StartUnit]:
    """The steps before the child exists, and after. Raises SpecError."""
    from .steps.unit import FindUnit, StartUnit

    user = request.systemd == "user"
    unit = unit_of(spec.linux.cgroupsPath if spec.linux else None, request.id, user=user)
    properties = dict(limits(settings)) | dict(annotated(spec.annotations))
    why = "linux.cgroupsPath, --systemd-cgroup"
    return (
        FindUnit(unit=unit, user=user, why=why),
        StartUnit(unit=unit, id=request.id, properties=tuple(properties.items()), why=why),
    )


def creation(unit: Unit, id: str, pid: int) -> list[Property]:
    """The properties of a new unit but its limits; pid is that of the process in a scope."""
    properties: list[Property] = [
        ("Description", ("s", f"pycontain container {id}")),
        # removed with its last process, even if the out-of-memory killer has killed that
        ("CollectMode", ("s", "inactive-or-failed")),
        ("DefaultDependencies", ("b", False)),
        *((f"{kind}Accounting", ("b", True)) for kind in ("CPU", "IO", "Memory", "Tasks")),
    ]
    if unit.is_slice:
        return [*properties, ("Wants", ("as", [unit.slice]))]
    scope: list[Property] = [
        ("Slice", ("s", unit.slice)),
        ("Delegate", ("b", True)),  # systemd does not touch the cgroups below
        ("PIDs", ("au", [pid])),
    ]
    return properties + scope


# --- limits ------------------------------------------------------------------------------------

_AMOUNTS = {
    "memory.max": "MemoryMax",
    "memory.high": "MemoryHigh",
    "memory.low": "MemoryLow",
    "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax",
    "pids.max": "TasksMax",
    "cpu.weight": "CPUWeight",
}
_SETS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}
_RATES = {
    "rbps": "IOReadBandwidthMax",
    "wbps": "IOWriteBandwidthMax",
    "riops": "IOReadIOPSMax",
    "wiops": "IOWriteIOPSMax",
}


def limits(settings: Iterable[Setting]) -> list[Property]:
    """The properties for these limits; those that systemd does not have are left out."""
    properties: dict[str, tuple[str, object]] = {}
    for setting in settings:
        applied = setting.otherwise or setting  # systemd converts io.weight for BFQ itself
        try:
            properties.update(_properties(applied.file, applied.value.strip(), properties))
        except ValueError:
            why = f"is not a value of {applied.file}"
            raise SpecError(why, at=setting.at, value=applied.value) from None
    return list(properties.items())


def _properties(file: str, value: str, before: dict[str, tuple[str, object]]) -> Iterator[Property]:
    if file in _AMOUNTS:
        amount = _amount(value)
        # systemd refuses 0 here; the file gets it
        yield _AMOUNTS[file], ("t", max(amount, 1) if file == "pids.max" else amount)
    elif file in _SETS:
        yield _SETS[file], ("ay", bits(value))
    elif file == "cpu.max":
        yield from _quota(value.split())
    elif file == "io.weight":
        *devices, weight = value.split()
        yield from _weight(devices, weight, before)
    elif file == "io.max":
        device, *rates = value.split()
        for rate in rates:
            key, _, text = rate.partition("=")
            yield _for_device(_RATES[key], device, _amount(text), before)


def _amount(text: str) -> int:
    return _UNLIMITED if text == "max" else int(text)


def _quota(words: Sequence[str]) -> Iterator[Property]:
    """Microseconds a second, rounded up to the percents that systemd counts in."""
    period = int(words[1]) if len(words) > 1 else 100_000
    quota = _UNLIMITED if words[0] == "max" else -(-int(words[0]) * 100 // period) * 10_000
    yield "CPUQuotaPeriodUSec", ("t", period)
    yield "CPUQuotaPerSecUSec", ("t", quota)


def _weight(
    devices: list[str], weight: str, before: dict[str, tuple[str, object]]
) -> Iterator[Property]:
    if devices in ([], ["default"]):
        yield "IOWeight", ("t", int(weight))
    else:
        yield _for_device("IODeviceWeight", devices[0], int(weight), before)


def _for_device(
    name: str, device: str, number: int, before: dict[str, tuple[str, object]]
) -> Property:
    """A property that has an entry for each device."""
    _, entries = before.get(name, ("", []))
    assert isinstance(entries, list), "this function created it"
    return name, ("a(st)", [*entries, (f"/dev/block/{device}", number)])


def bits(text: str) -> bytes:
    """A list such as 0-2,7 as a bit mask, the lowest first. Raises ValueError for another text."""
    mask = 0
    for part in text.split(","):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if not 0 <= low <= high < 1 << 16:
            raise ValueError(part)
        mask |= ((1 << high - low + 1) - 1) << low
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


# --- annotations -------------------------------------------------------------------------------

_WORDS = {"true": True, "false": False}


def annotated(annotations: dict[str, str]) -> list[Property]:
    """
    The properties that annotations add: org.systemd.property.NAME, as in runc.

    The value is in the format of GVariant's text: 'text', true, false, a number, or a list of texts
    in brackets; a number may have its type before it, such as uint64. A name that ends in Sec is
    given in seconds, and becomes the property in microseconds, ending in USec. Raises SpecError.
    """
    properties = []
    for key, text in annotations.items():
        name = key.removeprefix(_ANNOTATION)
        if name == key:
            continue
        if not (name.isascii() and name.isalpha() and name[0].isupper()):
            raise SpecError("does not name a property of a unit", at=f"annotations[{key}]")
        properties.append(_annotated(name, text.strip(), f"annotations[{key}]"))
    return properties


def _annotated(name: str, text: str, at: str) -> Property:
    value = _value(text)
    if value is None:
        raise SpecError(
            "is not a value that a property can have",
            at=at,
            value=text,
            remedy="write 'text' in single quotes, true, false, a number such as uint64 5, or a"
            " list such as ['a', 'b']",
        )
    kind, content = value
    if name.endswith("Sec") and not name.endswith("USec") and kind in _KINDS.values():
        assert isinstance(content, (int, float)), "a number"
        return f"{name[:-3]}USec", ("t", int(content * 1_000_000))
    return name, value


_KINDS = {
    "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "int64": "x",
    "uint64": "t", "double": "d",
}  # fmt: skip


def _value(text: str) -> tuple[str, object] | None:
    if text in _WORDS:
        return "b", _WORDS[text]
    if (quoted := _quoted(text)) is not None:
        return "s", quoted
    if text.startswith("[") and text.endswith("]"):
        texts = [_quoted(part.strip()) for part in text[1:-1].split(",")]
        return None if None in texts else ("as", texts)
    kind, _, number = text.rpartition(" ")
    try:
        signature = _KINDS[kind.strip() or ("double" if "." in number else "int32")]
        return signature, float(number) if signature == "d" else int(number, 0)
    except (KeyError, ValueError):
        return None


def _quoted(text: str) -> str | None:
    quote = text[:1]
    whole = quote in ("'", '"') and len(text) > 1 and text.endswith(quote)
    return text[1:-1] if whole else None
