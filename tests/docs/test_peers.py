"""Every row of docs/peers.md names a test that exists."""

from __future__ import annotations

import re

from tests.docs.pages import PROJECT

PAGE = PROJECT / "docs/peers.md"


def rows() -> list[list[str]]:
    """The cells of every row of a table, without headings."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines
             if line.startswith("|")]  # fmt: skip
    return [cells for cells in found if cells[-1] not in ("Test", "---")]


def test_every_row_is_complete():
    assert rows()
    assert [cells for cells in rows() if len(cells) != 7 or not all(cells)] == []


def test_every_row_names_tests_that_exist():
    for cells in rows():
        names = re.findall(r"`([\w/]+\.py)::(\w+)`", cells[-1])
        assert names, cells[0]
        for file, name in names:
            text = (PROJECT / "tests" / file).read_text(encoding="utf-8")
            assert f"def {name}(" in text, f"{file}::{name}, for {cells[0]!r}"
