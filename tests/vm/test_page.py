"""Every command of docs/virtualization.md does what the page says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/virtualization.md"


def commands() -> list[tuple[str, str]]:
    """Each command of the page with the output shown below it."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        for part in block.split("$ ")[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def run(command: str) -> subprocess.CompletedProcess[str]:
    words = shlex.split(command)
    assert words[0] == "pycontain"
    module = ["-m", *words]
    return subprocess.run(
        [sys.executable, *module], check=False, capture_output=True, text=True, timeout=120
    )


def cases():
    """The commands as parameters; comparing takes minutes where the processor is emulated."""
    for command, output in commands():
        slow = command.startswith("pycontain compare")
        yield pytest.param(command, output, marks=[pytest.mark.needs_bare_kvm] if slow else [])


@pytest.mark.parametrize(("command", "output"), list(cases()), ids=lambda value: value[:40])
def test_the_command_prints_what_the_page_says(needs_kvm, command, output):
    if "emulate" in command:
        pytest.importorskip("unicorn")
    done = run(command)
    assert done.stdout
    if output:
        assert done.stdout == output
    assert not re.search(r"^pycontain:", done.stderr, re.MULTILINE)


def test_the_numbers_of_exits_are_those_of_the_page(needs_kvm):
    text = PAGE.read_text()
    for guest, exits in (("uart", 8193), ("hypercall", 2), ("virtio", 17)):
        *rows, last = run(f"pycontain vm run {guest} --stats").stderr.splitlines()[1:]
        assert sum(int(row[20:29]) for row in rows) == exits
        assert re.fullmatch(rf"4096 bytes out, \d+ bytes/s, {exits} exits", last)
    assert "cost 8193 exits" in text
    assert "17 exits, 16 of which" in text


def test_the_page_has_a_command_in_each_section():
    sections = PAGE.read_text().split("\n## ")[2:]  # the first only lists the kinds of hypervisor
    assert [text.split("\n")[0] for text in sections if "```console" not in text] == []
