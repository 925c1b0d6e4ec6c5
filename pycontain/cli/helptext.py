"""
Help: a typer application generated from the table.

The application only describes the command line. `fast.py` parses it, for people and engines alike,
and a test checks that both have the same commands and flags.
"""

from __future__ import annotations

import inspect
import shutil

import typer

from . import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .table import Argument, Flag

_TYPES = {
    "switch": bool,
    "text": str,
    "integer": int,
    "list": list[str],
    "integers": list[int],
}
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_NARROWEST_BOX = 70  # columns; in a narrower one names of flags are cut off
_ABOUT = """
An OCI container runtime. It runs bundles: directories with a config.json and a root file system.
Users without root privileges run them in a user namespace of their own.
"""


def main(words: list[str]) -> int:
    """Show the help that these words request; returns the exit status."""
    try:
        command = typer.main.get_command(application())
        _hide_types(command)
        command(args=words, prog_name=table.PROGRAM)
    except SystemExit as end:
        return 0 if end.code in (None, 0) else 1
    return 0


def application() -> typer.Typer:
    """The typer application with every command, argument and flag of the table."""
    wide = shutil.get_terminal_size().columns >= _NARROWEST_BOX
    app = typer.Typer(
        help=_ABOUT,
        context_settings=_CONTEXT,
        rich_markup_mode="rich" if wide else None,
        add_completion=False,
    )
    settings = [_option(flag) for flag in table.GLOBALS if flag is not table.HELP]
    app.callback()(_described(settings))
    for command in table.COMMANDS.values():
        parameters = [_argument(argument) for argument in command.arguments]
        parameters += [_option(flag) for flag in command.flags]
        settings_of = {**_CONTEXT, "allow_interspersed_args": not command.prefix}
        decorate = app.command(
            command.name,
            help=command.help,
            short_help=command.summary,
            rich_help_panel=command.panel,
            context_settings=settings_of,
        )
        decorate(_described(parameters))
    return app


def _hide_types(command: Any) -> None:
    """Leave out Python's names of types, which typer shows for arguments since 0.26."""
    for each in (command, *getattr(command, "commands", {}).values()):
        of_help = each.get_help_option(typer.Context(each, **each.context_settings))
        for parameter in (*each.params, of_help):
            if parameter is of_help or parameter.param_type_name == "argument":
                parameter.display_type = lambda ctx: None  # noqa: ARG005


def _described(parameters: list[inspect.Parameter]) -> Callable[..., None]:
    """A function that does nothing, with these parameters for typer to read."""

    def function(**_: object) -> None:
        pass

    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return function


def _option(flag: Flag) -> inspect.Parameter:
    names = [f"--{flag.name}", *([f"-{flag.short}"] if flag.short else [])]
    option = typer.Option(
        list(flag.default) if isinstance(flag.default, tuple) else flag.default,
        *names,
        help=_flag_help(flag),
        metavar=flag.value,
        show_default=flag.default not in (None, False, "", ()),
    )
    return _parameter(flag.key, option, _TYPES[flag.kind])


def _flag_help(flag: Flag) -> str:
    text = f"{flag.help}: {', '.join(flag.choices)}" if flag.choices else flag.help
    if flag.variable:
        text += f"; or set {flag.variable}"
    return text


def _argument(argument: Argument) -> inspect.Parameter:
    optional = argument.default is not None or argument.unless != ""
    default: object = argument.default
    if argument.rest:
        default = [] if optional else ...
    elif not optional:
        default = ...
    described = typer.Argument(
        default,
        metavar=argument.name.upper(),
        help=argument.help,
        show_default=bool(argument.default),
    )
    return _parameter(argument.name, described, list[str] if argument.rest else str)


def _parameter(name: str, default: object, annotation: object) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )
