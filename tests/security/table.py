"""
The table of SECURITY.md, from the tests: `python -m tests.security.table` writes it again.

A row is a module of this folder: the first paragraph of its docstring is the threat, its tests show
what holds it, and those marked `control` show a naive variant that the exploit beats.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "SECURITY.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
_HEAD = "| Threat | CVEs | Shown by | Tests | Controls |\n|---|---|---|---|---|\n"
_CVE = re.compile(r"CVE-(\d{4}-\d+)")


class Module:
    """What a module of tests says and has."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        text = path.read_text()
        tree = ast.parse(text)
        threat = (ast.get_docstring(tree) or "").partition("\n\n")[0]
        self.threat = " ".join(threat.split())
        self.cves = sorted(set(_CVE.findall(text)))
        tests = [
            node
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        ]
        self.controls = [node.name for node in tests if _is_control(node)]
        self.tests = [node.name for node in tests if not _is_control(node)]

    @property
    def row(self) -> str:
        """The row of the table."""
        link = f"[{self.name}](tests/security/{self.name})"
        counts = f"{len(self.tests)} | {len(self.controls)}"
        return f"| {self.threat} | {', '.join(self.cves)} | {link} | {counts} |\n"


def _is_control(test: ast.FunctionDef) -> bool:
    return any("control" in ast.unparse(decorator) for decorator in test.decorator_list)


def modules() -> list[Module]:
    """The modules with tests, by name."""
    return [Module(path) for path in sorted(FOLDER.glob("test_*.py"))]


def table() -> str:
    """The whole table."""
    return _HEAD + "".join(module.row for module in modules())


def page(text: str) -> str:
    """The page with the table of today."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
