"""
Nothing that an image, a bundle or another process made decides how deep our functions call.

A tree of 1,200 directories, or of as many brackets, would end a recursion over it with an error
that nobody can understand.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pycontain"
ROOMS = ("cgroup", "init", "kernel", "lean", "plan", "spec", "state", "wire")

# Functions that may call themselves: what decides how often is our own.
BOUNDED = {
    "cgroup/tree.py": {"_make": "a number of tries", "_set": "the alternatives of one limit"},
    "lean/jsontext.py": {
        "_pretty": "what we print", "_block": "what we print", "fits": "the shape, not the value",
    },
    "spec/parse.py": dict.fromkeys(
        ("read", "_fields", "_reader", "_element"), "the schema, not the text"
    ),
}  # fmt: skip


def calls_of(function):
    """The names that a function calls, of functions and of its own methods."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name):
                yield called.id
            elif isinstance(called, ast.Attribute) and ast.unparse(called.value) in ("self", "cls"):
                yield called.attr


def recursive(text):
    """The functions of a module that lead back to themselves."""
    graph: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            graph.setdefault(node.name, set()).update(calls_of(node))
    for name, called_first in graph.items():
        seen, ahead = set(), list(called_first)
        while ahead:
            called = ahead.pop()
            if called in graph and called not in seen:
                seen.add(called)
                ahead += graph[called]
        if name in seen:
            yield name


MODULES = sorted(
    str(path.relative_to(PACKAGE))
    for room in ROOMS
    for path in (PACKAGE / room).rglob("*.py")
    if path.name != "_ffi.py"
)


@pytest.mark.parametrize("name", MODULES)
def test_no_function_recurses_over_foreign_data(name):
    found = set(recursive((PACKAGE / name).read_text()))
    assert found <= BOUNDED.get(name, {}).keys()


def test_the_modules_to_check_are_found():
    assert {"init/copying.py", "kernel/root.py", *BOUNDED} <= set(MODULES)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def walk(tree):\n    for inner in tree: walk(inner)", {"walk"}),
        ("def one(): two()\ndef two(): one()", {"one", "two"}),
        ("class Tree:\n    def walk(self): self.walk()", {"walk"}),
        ("def one(): two()\ndef two(): pass", set()),
        ("def close(fd): os.close(fd)", set()),
    ],
)
def test_the_rule_detects_recursion(text, found):
    assert set(recursive(text)) == found
