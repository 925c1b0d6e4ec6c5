"""
Man pages generated from the table: `pages` has pycontain.1 and one page for each command.

Their language is man(7), which man-db, mandoc and busybox read.
"""

from __future__ import annotations

import textwrap

from . import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .table import Argument, Command, Flag

_PROGRAM_PAGE = """\
{title}
.SH NAME
pycontain \\- run containers from OCI bundles
.SH SYNOPSIS
.B pycontain
.RI [ option .\\|.\\|.]
.I command
.RI [ argument .\\|.\\|.]
.SH DESCRIPTION
.B pycontain
is an OCI container runtime with the commands and flags of
.BR runc (8).
It runs bundles: directories with a
.I config.json
and a root file system.
Engines such as Podman, containerd and Docker call it for each container.
Users without root privileges run them in a user namespace of their own.
.PP
Flags are written with one dash or two, and their values after a space or an
equals sign.
.SH OPTIONS
{options}
.SH COMMANDS
{commands}
.SH ENVIRONMENT
{environment}
.SH EXIT STATUS
.B pycontain run
and
.B pycontain exec
exit with the status of the program, or 128 and the number of the signal that
killed it; with 126 if the program cannot be executed, 127 if there is none,
and 125 if anything else fails with an image or a root file system.
Otherwise the status is 0, or 1 after an error, which is one line on standard
error.
.SH FILES
.TP
.I /run/pycontain
the state of containers
.TP
.I /var/lib/pycontain
images, the layers of containers, and copies of the Python interpreter that no
container can overwrite
.TP
.I $XDG_RUNTIME_DIR/pycontain, $XDG_DATA_HOME/pycontain
the same of a user without root privileges
.SH SEE ALSO
{related}
"""

_COMMAND_PAGE = """\
{title}
.SH NAME
{name}
.SH SYNOPSIS
{synopsis}
.SH DESCRIPTION
{description}
{sections}.SH SEE ALSO
{related}
"""


def pages(date: str) -> dict[str, str]:
    """The text of each page by the name of its file, with the date on which it was made."""
    pages = {f"{table.PROGRAM}.1": _program_page(date)}
    for command in table.COMMANDS.values():
        pages[f"{table.PROGRAM}-{command.name}.1"] = _command_page(command, date)
    return pages


def _program_page(date: str) -> str:
    return _PROGRAM_PAGE.format(
        title=_title(table.PROGRAM, date),
        options="\n".join(map(_option, table.GLOBALS)),
        commands="\n".join(_commands()),
        environment="\n".join(_environment()),
        related=_related((f"{table.PROGRAM}-{name}", "1") for name in table.COMMANDS),
    )


def _command_page(command: Command, date: str) -> str:
    description = _paragraph(command.help)
    sections = ""
    if command.arguments:
        sections += ".SH ARGUMENTS\n" + "".join(f"{_argument(one)}\n" for one in command.arguments)
    options = "\n".join(map(_option, (*command.flags, table.HELP)))
    about = command.summary.rstrip(".")
    about = about[0].lower() + about[1:]
    return _COMMAND_PAGE.format(
        title=_title(f"{table.PROGRAM}-{command.name}", date),
        name=_paragraph(f"{table.PROGRAM}-{command.name} - {about}"),
        synopsis=_synopsis(command),
        description=description,
        sections=f"{sections}.SH OPTIONS\n{options}\n",
        related=_related([(table.PROGRAM, "1")]),
    )


def _title(name: str, date: str) -> str:
    return f'.TH {_text(name.upper())} 1 "{date}" "{table.PROGRAM} {table.VERSION}" "User Commands"'


def _synopsis(command: Command) -> str:
    lines = [f".B {table.PROGRAM} {_text(command.name)}", ".RI [ option .\\|.\\|.]"]
    for argument in command.arguments:
        name = _text(argument.name.replace("_", "-")) + (".\\|.\\|." if argument.rest else "")
        optional = argument.default is not None or argument.unless
        lines.append(f".RI [ {_word(name)} ]" if optional else f".I {name}")
    return "\n".join(lines)


def _option(flag: Flag) -> str:
    names = [f"\\-{flag.short}"] if flag.short else []
    shown = ", ".join(f"\\fB{name}\\fR" for name in [*names, f"\\-\\-{_text(flag.name)}"])
    if flag.value:
        shown += f" \\fI{_text(flag.value)}\\fR"
    return f".TP\n{shown}\n{_paragraph(_about(flag))}"


def _about(flag: Flag) -> str:
    """What a flag does, with its values, where else it is set, and its default."""
    text = flag.help
    if flag.choices:
        text += f": {', '.join(flag.choices)}"
    if flag.variable:
        text += f"; or set {flag.variable}"
    if flag.kind in ("list", "integers"):
        text += "; may be given several times"
    if flag.default not in (None, False, "", ()):
        text += f"; the default is {flag.default}"
    return text


def _argument(argument: Argument) -> str:
    text = argument.help
    if argument.default:
        text += f"; the default is {argument.default}"
    if argument.unless:
        text += f"; not needed with --{argument.unless}"
    return f".TP\n.I {_text(argument.name.replace('_', '-'))}\n{_paragraph(text)}"


def _commands() -> Iterator[str]:
    commands = table.COMMANDS.values()
    for panel in dict.fromkeys(command.panel for command in commands):
        yield f".SS {_text(panel)}"
        for command in commands:
            if command.panel == panel:
                name = f"{table.PROGRAM}-{command.name}"
                yield f".TP\n.BR {_text(name)} (1)\n{_paragraph(command.summary)}"


def _environment() -> Iterator[str]:
    flags = [*table.GLOBALS, *(flag for one in table.COMMANDS.values() for flag in one.flags)]
    for flag in flags:
        if flag.variable:
            about = _paragraph(f"the value of --{flag.name}, if that is not given")
            yield f".TP\n.B {flag.variable}\n{about}"


def _related(pages: Iterable[tuple[str, str]]) -> str:
    return ",\n".join(f".BR {_text(name)} ({section})" for name, section in pages)


def _word(text: str) -> str:
    """One argument of a macro."""
    return f'"{text}"' if " " in text else text


def _paragraph(text: str) -> str:
    """Text in lines as a source of roff(7) has them; a dot at the beginning is no macro."""
    lines = textwrap.wrap(_text(text), 79, break_long_words=False, break_on_hyphens=False)
    return "\n".join(f"\\&{line}" if line.startswith(".") else line for line in lines)


def _text(text: str) -> str:
    """Text that roff(7) prints as it is."""
    return text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
