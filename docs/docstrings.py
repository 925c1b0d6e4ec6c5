"""An extension of griffe: lists of names in docstrings become lists in Markdown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from griffe import Extension

if TYPE_CHECKING:
    from griffe import Object

_ENTRY = re.compile(r"(?P<names>[\w.\"-]+(?:, [\w.\"-]+)*) {2,}(?P<text>\S.*)")


class Lists(Extension):
    """A line such as "id  its name" is an entry, the indented lines after it continue it."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    """The docstring with its lists of names as Markdown."""
    lines = []
    in_list = False
    for line in docstring.splitlines():
        entry = _ENTRY.fullmatch(line)
        if entry:
            if not in_list and lines and lines[-1]:
                lines.append("")
            names = ", ".join(f"`{name}`" for name in entry["names"].split(", "))
            lines.append(f"- {names}: {entry['text']}")
        elif in_list and line.startswith("  "):
            lines.append(f"    {line.strip()}")
        else:
            lines.append(line)
        in_list = bool(entry) or (in_list and line.startswith("  "))
    return "\n".join(lines)
