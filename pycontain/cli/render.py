"""Tables for people. A pipe gets the same columns as plain text, never truncated."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..lean import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..runtime.doctor import Finding

_PIPE_WIDTH = 4096
_STATUS_STYLES = {"ok": "green", "warn": "yellow", "lack": "bold red"}
_CONTAINER_COLUMNS = ("id", "pid", "status", "bundle", "created", "owner")


def _console(stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else _PIPE_WIDTH, highlight=False)


def _table(*columns: str, title: str = "") -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def json(value: object) -> None:
    """Print indented JSON, coloured on a terminal."""
    console = _console()
    if console.is_terminal:
        console.print_json(jsontext.dumps(value))
    else:
        console.print(jsontext.pretty(value), markup=False, soft_wrap=True)


def containers(found: Iterable[Mapping[str, object]]) -> None:
    """`pycontain list`."""
    table = _table(*(name.upper() for name in _CONTAINER_COLUMNS))
    for container in found:
        table.add_row(*(Text(str(container.get(name, ""))) for name in _CONTAINER_COLUMNS))
    _console().print(table)


def plan(bundle: str, steps: Iterable[Mapping[str, object]]) -> None:
    """`pycontain plan`: each step with its side, what it does and the reason."""
    table = _table("", "SIDE", "STEP", "WHAT", "WHY", title=f"the steps that run {bundle}")
    table.columns[0].justify = "right"
    styles = {"parent": "cyan", "child": "magenta"}
    for number, step in enumerate(steps, 1):
        side = str(step["side"])
        table.add_row(
            str(number),
            Text(side, styles.get(side, "")),
            Text(str(step["name"]), "bold"),
            Text(str(step["what"])),
            Text(str(step["why"]), "dim"),
        )
    _console().print(table)


def findings(found: Iterable[Finding]) -> None:
    """`pycontain doctor`: what was checked, what was found, and the remedy."""
    table = _table("CHECK", "", "FOUND", "REMEDY")
    for finding in found:
        table.add_row(
            Text(finding.name, "bold"),
            Text(finding.status, _STATUS_STYLES[finding.status]),
            Text(finding.found),
            Text(finding.remedy),
        )
    _console().print(table)


def timings(steps: Iterable[tuple[str, str, int]]) -> None:
    """`pycontain run --timing`, on standard error: standard output belongs to the container."""
    table = _table("SIDE", "STEP", "MICROSECONDS")
    table.columns[2].justify = "right"
    total = 0
    for side, step, microseconds in steps:
        total += microseconds
        table.add_row(side, Text(step), str(microseconds))
    table.add_row("", Text("total", "bold"), Text(str(total), "bold"))
    _console(stderr=True).print(table)
