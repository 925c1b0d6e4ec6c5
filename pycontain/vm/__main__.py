"""`python -m pycontain.vm`: the KVM module on its own."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .. import jsontext
from ..errors import PycontainError
from . import commands
from .watch import Stats

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.command()
def caps(format: str = "table") -> None:
    """What this host's KVM offers."""
    report = commands.caps()
    if format == "json":
        typer.echo(jsontext.pretty(report.record()))
        return
    typer.echo(f"{report.device}: API version {report.api_version}, {report.assistance.kind}")
    for name, value in {**report.limits, **report.extensions}.items():
        typer.echo(f"{name:28} {value}")


@app.command()
def run(
    what: Annotated[list[str], typer.Argument(help="a guest, a flat binary, or -- program args")],
    mem: str = "",
    cpus: int = 0,
    timeout: Annotated[float | None, typer.Option()] = None,
    trace: bool = False,
    stats: bool = False,
    engine: str = "kvm",
    format: str = "table",
    root: str = "/",
    disk: str = "",
    interactive: bool = False,
) -> None:
    """Run a tiny guest, a flat binary of yours, or (after --) a static Linux program."""
    counted = Stats()
    options = commands.Options(
        memory=commands.memory_size(mem) if mem else 0, cpus=cpus, timeout=timeout, engine=engine,
        disk=disk, interactive=interactive, root=root, stats=counted,
        trace=sys.stderr.write if trace else None,
    )  # fmt: skip
    is_program = "--" in sys.argv
    try:
        report = (
            commands.run_program(what, options) if is_program
            else commands.run_guest(what[0], options)
        )  # fmt: skip
    finally:
        if stats and format != "json":
            for row in commands.rows(counted):
                typer.echo(row, err=True)
    if format == "json":
        typer.echo(jsontext.pretty(report.record()), err=True)
    if report.message:
        typer.echo(report.message, err=True)
    raise typer.Exit(report.status)


def main() -> None:
    """Errors are one line."""
    try:
        app()
    except PycontainError as error:
        typer.echo(f"pycontain: {error}", err=True)
        sys.exit(error.fault.status)


if __name__ == "__main__":
    main()
