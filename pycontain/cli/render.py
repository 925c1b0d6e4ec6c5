"""Tables for people. A pipe gets the same columns as plain text, never truncated."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..lean import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from ..runtime.doctor import Finding

_PIPE_WIDTH = 4096
_GAP = 2  # columns of the terminal between two of a table
_SHORTEST = 12  # characters of a line in a column that is folded
_STATUS_STYLES = {"ok": "green", "denied": "yellow", "missing": "bold red"}
_SHORT_DIGEST = len("sha256:") + 12  # characters
_CONTAINER_COLUMNS = ("id", "pid", "status", "bundle", "created", "owner")


def _console(stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else _PIPE_WIDTH, highlight=False)


def _show(
    headings: Sequence[str],
    rows: Sequence[Sequence[Text]],
    *,
    folds: Iterable[str] = (),
    right: Iterable[str] = (),
    title: str = "",
    stderr: bool = False,
) -> None:
    """
    Print a table, in which the columns of some headings may be folded.

    Where a terminal is too narrow even for that, each row becomes lines of "HEADING value".
    """
    console = _console(stderr)
    table = Table(
        box=None, pad_edge=False, padding=(0, _GAP, 0, 0), title=title, title_justify="left"
    )
    needed = 0
    for number, heading in enumerate(headings):
        widest = max([len(heading), *(row[number].cell_len for row in rows)])
        fixed = heading not in folds
        needed += (widest if fixed else min(widest, _SHORTEST)) + _GAP
        table.add_column(
            heading, overflow="fold", no_wrap=fixed, min_width=widest if fixed else None,
            justify="right" if heading in right else "left",
        )  # fmt: skip
    if needed <= console.width:
        for row in rows:
            table.add_row(*row)
        console.print(table)
    else:
        _show_blocks(console, headings, rows)


def _show_blocks(console: Console, headings: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
    for number, row in enumerate(rows):
        block = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=False)
        block.add_column(no_wrap=True, min_width=max(map(len, headings)))
        block.add_column(overflow="fold")
        for heading, cell in zip(headings, row, strict=True):
            if cell.plain:
                block.add_row(heading, cell)
        if number:
            console.print()
        console.print(block)


def json(value: object) -> None:
    """Print indented JSON, coloured on a terminal."""
    console = _console()
    if console.is_terminal:
        console.print_json(jsontext.dumps(value))
    else:
        console.print(jsontext.pretty(value), markup=False, soft_wrap=True)


def containers(found: Iterable[Mapping[str, object]]) -> None:
    """`pycontain list`."""
    rows = [
        [Text(str(container.get(name, ""))) for name in _CONTAINER_COLUMNS] for container in found
    ]
    _show([name.upper() for name in _CONTAINER_COLUMNS], rows, folds=("BUNDLE", "CREATED"))


def images(found: Iterable[Mapping[str, Any]]) -> None:
    """`pycontain images`: one line for each name of an image."""
    rows = [
        [
            Text(name),
            Text(str(image["digest"])[:_SHORT_DIGEST]),
            Text(f"{image['size'] / 1_000_000:.1f} MB"),
            Text(str(image["created"]).partition(".")[0].removesuffix("Z")),
            Text(str(len(image["containers"]))),
        ]
        for image in found
        for name in image["names"] or ("(none)",)
    ]
    headings = ("NAME", "DIGEST", "SIZE", "CREATED", "CONTAINERS")
    _show(headings, rows, folds=("NAME", "CREATED"), right=("SIZE", "CONTAINERS"))


def plan(bundle: str, steps: Iterable[Mapping[str, object]]) -> None:
    """`pycontain plan`: each step with its side, what it does and the reason."""
    styles = {"parent": "cyan", "child": "magenta"}
    rows = [
        [
            Text(str(number)),
            Text(str(step["side"]), styles.get(str(step["side"]), "")),
            Text(str(step["name"]), "bold"),
            Text(str(step["what"])),
            Text(str(step["why"]), "dim"),
        ]
        for number, step in enumerate(steps, 1)
    ]
    _show(
        ("#", "SIDE", "STEP", "WHAT", "WHY"), rows, folds=("WHAT", "WHY"), right="#",
        title=f"the steps that run {bundle}",
    )  # fmt: skip


def findings(found: Iterable[Finding], *, ready: bool) -> None:
    """`pycontain doctor`: what was checked, what was found, and the remedy; then the outcome."""
    rows = [
        [
            Text(finding.name, "bold"),
            Text(finding.status, _STATUS_STYLES[finding.status]),
            Text(finding.found),
            Text(finding.prevents),
            Text(finding.remedy),
        ]
        for finding in found
    ]
    headings = ("CHECK", "STATUS", "FOUND", "PREVENTS", "REMEDY")
    _show(headings, rows, folds=("CHECK", "FOUND", "PREVENTS", "REMEDY"))
    outcome = "Containers can be run here." if ready else "Containers cannot be run here."
    _console().print(Text(outcome, "bold green" if ready else "bold red"))


def timings(steps: Iterable[tuple[str, str, int]]) -> None:
    """`pycontain run --timing`, on standard error: standard output belongs to the container."""
    listed = list(steps)
    total = sum(microseconds for _, _, microseconds in listed)
    rows = [[Text(side), Text(step), Text(str(spent))] for side, step, spent in listed]
    rows.append([Text(""), Text("total", "bold"), Text(str(total), "bold")])
    _show(("SIDE", "STEP", "MICROSECONDS"), rows, right=("MICROSECONDS",), stderr=True)
