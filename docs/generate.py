"""
The pages of the documentation that are made from the program: a hook of mkdocs.

commands   from the command table
calls      from the table of system calls of programs in a VM
python     the names that `pycontain` exports; mkdocstrings adds their docstrings
container  the plan of the demo bundle, with what each step's record says
others     Markdown files at the top of the project
"""

from __future__ import annotations

import html
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

import pycontain
from pycontain.cli.table import COMMANDS, GLOBALS
from pycontain.plan.request import Request
from pycontain.runtime.bundle import Bundle
from pycontain.vm.linux.numbers import X86_64
from pycontain.vm.linux.table import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

    from pycontain.cli.table import Command, Flag
    from pycontain.plan.steps import Step

PROJECT = Path(__file__).parent.parent
COPIED = {
    "security.md": "SECURITY.md",
    "contributing.md": "CONTRIBUTING.md",
    "changes.md": "CHANGELOG.md",
}
STEPS = "<!-- steps -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    made = {name: _copied(PROJECT / source) for name, source in COPIED.items()}
    made["reference/commands.md"] = "\n".join(_commands())
    made["reference/python.md"] = "\n".join(_python())
    made["reference/calls.md"] = "\n".join(_calls())
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put the steps where a page wants them."""
    if STEPS in markdown:
        markdown = markdown.replace(STEPS, "\n".join(_steps()))
    return markdown


def _copied(path: Path) -> str:
    """A file from the top of the project; its links to source files become plain names."""
    text = re.sub(r"<!--.*?-->\n?", "", path.read_text())
    return re.sub(r"\[([^]]+)\]\((?!https?:)[^)]+\)", r"`\1`", text).replace("``", "`")


# --- the commands --------------------------------------------------------------------------------


def _commands() -> Iterator[str]:
    yield "# Commands\n"
    yield "    pycontain [GLOBAL OPTIONS] COMMAND [OPTIONS] [ARGUMENTS]\n"
    yield "Names and meanings are runc's; those of crun and of pycontain alone are marked.\n"
    yield "## Global options\n"
    yield from _flags(GLOBALS)
    for command in COMMANDS.values():
        yield f"## {command.name}\n"
        yield f"    {_usage(command)}\n"
        yield f"{command.help}\n"
        if command.arguments:
            yield "| argument | |\n|---|---|"
            yield from (
                f"| `{each.name.upper()}` | {_cell(each.help)} |" for each in command.arguments
            )
            yield ""
        yield from _flags(command.flags)


def _usage(command: Command) -> str:
    words = ["pycontain", command.name]
    if command.flags:
        words.append("[OPTIONS]")
    for each in command.arguments:
        word = each.name.upper() + ("..." if each.rest else "")
        words.append(word if each.default is None and not each.rest else f"[{word}]")
    return " ".join(words)


def _flags(flags: Iterable[Flag]) -> Iterator[str]:
    rows = [_row(flag) for flag in flags]
    if rows:
        yield "| option | |\n|---|---|"
        yield from rows
        yield ""


def _row(flag: Flag) -> str:
    short = f"`-{flag.short}`, " if flag.short else ""
    value = f" {flag.value}" if flag.value else ""
    notes = [flag.help]
    if flag.choices:
        notes.append(f"one of {', '.join(flag.choices)}")
    if flag.default not in (None, "", False, ()):
        notes.append(f"default: `{flag.default}`")
    if flag.variable:
        notes.append(f"or set `{flag.variable}`")
    return f"| {short}`--{flag.name}{value}` | {_cell('; '.join(notes))} |"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


# --- the library ---------------------------------------------------------------------------------


_RECORDS = (
    "library.streams.StreamArguments",
    "library.arguments.RunArguments",
    "library.arguments.ExecArguments",
    "sandbox.setup.SandboxArguments",
    "sandbox.limits.LimitArguments",
    "sandbox.limits.Limits",
    "sandbox.files.Entry",
    "sandbox.stream.Stream",
)


def _python() -> Iterator[str]:
    yield "# Python\n"
    yield (
        "Everything here is a name of the package: `import pycontain`. Importing it costs nothing; "
        "its parts are loaded on first use.\n"
    )
    for name in pycontain.__all__:
        home = getattr(getattr(pycontain, name), "__module__", None)
        if home is not None:
            yield f"::: {home}.{name}\n"
    yield "## Further records\n"
    yield "What these calls take and return, which need not be imported.\n"
    for path in _RECORDS:
        yield f"::: pycontain.{path}\n    options:\n      heading_level: 3\n"


# --- the system calls ----------------------------------------------------------------------------


def _calls() -> Iterator[str]:
    """Which calls of a program in a VM are served, and which are answered with ENOSYS."""
    yield "# System calls of programs in a VM\n"
    yield "What `pycontain vm run` serves; each is made by the monitor, none by the program.\n"
    yield "| call | arguments | may wait | served by |"
    yield "|---|---|---|---|"
    for call in TABLE.values():
        module = call.function.__module__.rpartition(".")[2]
        waits = "yes" if call.blocks else ""
        yield f"| `{call.name}` | {' '.join(call.kinds)} | {waits} | `vm/linux/{module}.py` |"
    yield "\nAnswered with ENOSYS:\n"
    yield ", ".join(f"`{name}`" for name in sorted({*X86_64.values()} - TABLE.keys())) + "\n"


# --- the steps -----------------------------------------------------------------------------------


def _steps() -> Iterator[str]:
    """A heading for each turn of the demo bundle's plan, with its steps."""
    made = subprocess.run(
        [PROJECT / "rootfs/make.sh", "demo"], check=True, capture_output=True, text=True
    )
    loaded = Bundle(made.stdout.strip())
    plan = loaded.plan(Request(id="demo", bundle=loaded.path, separate_start=True))
    number = 0
    for turn in plan.turns:
        yield f"### The {turn.side}, from step {number + 1}\n"
        for step in turn.steps:
            number += 1
            yield f"{number}. **{step.name}**: {_sentence(step)}"
        yield ""


def _sentence(step: Step) -> str:
    what = step.what().replace(f"{PROJECT}/", "").replace(str(Path.home()), "~")
    about = " ".join((type(step).__doc__ or "").split())
    return f"{html.escape(what)}  \n    {about} *({step.why})*\n"
