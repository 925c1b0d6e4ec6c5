"""`python -m pycontain.compare`: one program behind every wall, side by side."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from .. import jsontext
from ..errors import PycontainError
from . import commands, page
from .comparison import compare


def main(
    program: Annotated[list[str] | None, typer.Argument(help="a static program")] = None,
    runs: int = 5,
    format: Annotated[str, typer.Option(help="table or json")] = "table",
    html: Annotated[str, typer.Option(help="write a page with charts to this file")] = "",
) -> None:
    """Run a program natively, in a container, in a virtual machine and emulated."""
    try:
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("")
            comparison = compare(
                program or (), runs,
                lambda done, total, what: bar.update(
                    task, completed=done, total=total, description=what
                ),
            )  # fmt: skip
        if html:
            page.write(comparison, html)
    except PycontainError as error:
        typer.echo(f"pycontain: {error}", err=True)
        raise typer.Exit(error.fault.status) from None
    if format == "json":
        sys.stdout.write(jsontext.pretty(comparison.record()) + "\n")
        return
    head, *body = commands.rows(comparison)
    caption = f"{comparison.runs} runs each, interleaved; /dev/kvm is {comparison.engine}"
    table = Table(*head, caption=caption, caption_justify="left")
    for row in body:
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
