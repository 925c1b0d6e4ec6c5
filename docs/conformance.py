"""
docs/conformance.md: which test shows each property and rule of the specification.

`python docs/conformance.py` writes it, from docs/conformance.toml and the marks of the tests:

    @pytest.mark.property("linux.sysctl", "linux.devices*", "life-cycle 7")

A star stands for any text. tests/style holds the page in step, and wants a test in every row.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

PROJECT = Path(__file__).parent.parent
PAGE = PROJECT / "docs" / "conformance.md"
PEERS = ("runc", "crun", "youki")
_ANYWHERE = {"needs_root", "needs_busybox", "needs_runc", "needs_crun", "needs_cc", "needs_strace"}
_HEAD = """\
# Conformance

Every property of the configuration and every rule of the life cycle in the OCI runtime
specification 1.3.0, with the tests that show it. Tests run on any Linux host with root, those of
the *machine* in the integration machine, which has what hosts often lack: cgroup v2 with all
controllers, systemd, AppArmor. The peers' answers are from reading runc 1.5, crun 1.29 and
youki 0.7. This page is generated: `python docs/conformance.py`.
"""


class Test(NamedTuple):
    """A test with the names and patterns of its mark."""

    file: str
    name: str
    place: str
    marks: tuple[str, ...]


@cache
def facts() -> dict[str, Any]:
    """The content of docs/conformance.toml."""
    return tomllib.loads((PROJECT / "docs" / "conformance.toml").read_text())


@cache
def tests() -> tuple[Test, ...]:
    """Every test with the mark `property`, without importing any."""
    folder = PROJECT / "tests"
    return tuple(test for path in sorted(folder.rglob("test_*.py")) for test in _tests_of(path))


def matches(pattern: str, name: str) -> bool:
    """Whether a name is meant by one of a mark or of the TOML file."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None


def names() -> list[str]:
    """All properties, then all rules."""
    return [*facts()["schema"]["properties"], *facts()["rules"]]


def shown_by(name: str) -> list[Test]:
    """The tests for a property or rule; of patterns, the most precise."""
    found = [
        (max(len(mark) for mark in test.marks if matches(mark, name)), test)
        for test in tests()
        if any(matches(mark, name) for mark in test.marks)
    ]
    return [test for _, test in sorted(found, key=lambda each: -each[0])]


def unknown_marks() -> list[str]:
    """The marks that mean nothing: misspelt, or of a property that has gone."""
    marks = {mark for test in tests() for mark in test.marks}
    return sorted(mark for mark in marks if not any(matches(mark, name) for name in names()))


def page() -> str:
    """The whole page."""
    rows = [_HEAD, "## Properties\n", *_table("property", _properties())]
    rows += ["\n## Life cycle\n", *_table("rule", _rules())]
    return "\n".join(rows) + "\n"


def _properties() -> Iterator[list[str]]:
    for name in facts()["schema"]["properties"]:
        peers = {**dict.fromkeys(PEERS, "yes"), **_answers("peers", name)}
        ours = _answers("ours", name).get("answer", "yes")
        yield [f"`{name}`", ours, *_shown(name), *(peers[peer] for peer in PEERS)]


def _rules() -> Iterator[list[str]]:
    for name, text in facts()["rules"].items():
        peers = {**dict.fromkeys(PEERS, "not examined"), **_answers("peers", name)}
        yield [
            f"{name.split()[-1]}. {text}",
            "yes",
            *_shown(name),
            *(peers[peer] for peer in PEERS),
        ]


def _answers(table: str, name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in facts()[table]:
        if any(matches(pattern, name) for pattern in entry["properties"]):
            found |= {key: value for key, value in entry.items() if key != "properties"}
    return found


def _shown(name: str) -> list[str]:
    """(the two most precise tests, where they run) as cells."""
    found = shown_by(name)[:2]
    tests = ", ".join(f"{_words(test.name)} ({test.file})" for test in found)
    return [tests, ", ".join(dict.fromkeys(test.place for test in found))]


def _words(name: str) -> str:
    return name.removeprefix("test_").replace("_", " ")


def _table(first: str, rows: Iterator[list[str]]) -> Iterator[str]:
    yield f"| {first} | pycontain | shown by | where | {' | '.join(PEERS)} |"
    yield "|---|---|---|---|---|---|---|"
    for cells in rows:
        yield f"| {' | '.join(cells)} |"


def _tests_of(path: Path) -> Iterator[Test]:
    text = path.read_text()
    if "mark.property(" not in text:
        return
    tree = ast.parse(text)
    everywhere = {
        name for node in tree.body if isinstance(node, ast.Assign) for name in _needs(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and (marks := tuple(_marks(node))):
            needs = everywhere.union(*(_needs(mark) for mark in node.decorator_list))
            machine = bool(needs - _ANYWHERE) or path.parent.name == "lab"
            file = str(path.relative_to(PROJECT / "tests"))
            yield Test(file, node.name, "machine" if machine else "any host", marks)


def _marks(function: ast.FunctionDef) -> Iterator[str]:
    for mark in function.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.property":
            yield from (ast.literal_eval(argument) for argument in mark.args)


def _needs(node: ast.AST) -> set[str]:
    return set(re.findall(r"\bneeds_\w+", ast.unparse(node)))


if __name__ == "__main__":
    PAGE.write_text(page())
