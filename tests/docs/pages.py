"""
What a reader of README.md or docs/*.md would type, and what the page says it shows.

Blocks have a language:

    sh       commands, one after the other in one shell
    console  commands after "$ ", each with its output; none is shown if it is not always the same
    python   a program; a comment after print(…) is what it prints
    json     \\ valid text
    toml     /

In an output "…" stands for anything, and one space for any number of them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parents[2]
PAGES = [PROJECT / "README.md", *sorted(PROJECT.glob("docs/*.md"))]
LANGUAGES = {"sh", "console", "python", "json", "toml", "yaml", "ini"}

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_PRINTED = re.compile(r"^ *print\(.*\)  # (.*)$", re.MULTILINE)


class Example(NamedTuple):
    """One command or program, and its output: "" if the page shows none."""

    language: str
    text: str
    output: str = ""


def examples(page: str) -> list[Example]:
    """The commands and programs of a page, in order."""
    found = []
    for language, text in _BLOCK.findall(page):
        if language == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                found.append(Example("sh", command, output))
        elif language == "sh":
            found += [Example("sh", line) for line in text.splitlines() if line.strip()]
        elif language == "python":
            found.append(Example("python", text, "\n…\n".join(_PRINTED.findall(text))))
        else:
            found.append(Example(language, text))
    return found


def code(page: str) -> list[tuple[str, str]]:
    """(language, first line) of every block of code, fenced or indented."""
    outside = _BLOCK.sub("", page)
    indented = re.findall(r"(?:^|\n\n) {4}(\S.*)", outside)
    fenced = [(language, text.partition("\n")[0]) for language, text in _BLOCK.findall(page)]
    return [*fenced, *(("", line) for line in indented)]


def shows(expected: str, printed: str) -> bool:
    """Whether a page's output is what was printed."""
    pieces = [_words(piece) for piece in expected.split("…")]
    pattern = ".*".join(re.escape(piece).replace(r"\ ", " *") for piece in pieces)
    return re.fullmatch(f" *{pattern} *", _words(printed), re.DOTALL) is not None


def _words(text: str) -> str:
    return re.sub(r"\s+", " ", text)
