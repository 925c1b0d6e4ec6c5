"""Is `linux.intelRdt` valid? config-linux.md, IntelRdt."""

from __future__ import annotations

from .problem import each, problem, under

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .problem import Problems
    from .records import IntelRdt

DEFAULT_CLASS = "/"  # the kernel's default class, of all other processes


def problems(rdt: IntelRdt) -> Problems:
    """Everything that is wrong with the class of service."""
    name = rdt.closID or ""
    if name in (".", "..") or (name != DEFAULT_CLASS and "/" in name) or not name.isprintable():
        remedy = "use one without /, or / alone for the default class"
        yield problem(under(rdt, "closID"), "is not the name of a class of service", remedy, name)
    for at, line in each(rdt, "schemata"):
        if not all(line.partition(":")) or "\n" in line:
            yield problem(at, "is not a line of schemata", "write it as L3:0=ff;1=ff", line)
