"""What docs/virtualization.md says of its commands; tests/docs/test_pages.py runs them."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.docs.pages import PROJECT

PAGE = PROJECT / "docs/virtualization.md"


def test_the_numbers_of_exits_are_those_of_the_page(needs_kvm):
    text = PAGE.read_text()
    for guest, exits in (("uart", 8193), ("hypercall", 2), ("virtio", 17)):
        command = [sys.executable, "-m", "pycontain", "vm", "run", guest, "--stats"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
        *rows, last = done.stderr.splitlines()[1:]
        assert sum(int(row[20:29]) for row in rows) == exits
        assert re.fullmatch(rf"4096 bytes out, \d+ bytes/s, {exits} exits", last)
    assert "cost 8193 exits" in text
    assert "17 exits, 16 of which" in text


def test_the_page_has_a_command_in_each_section():
    sections = PAGE.read_text().split("\n## ")[2:]  # the first only lists the kinds of hypervisor
    assert [text.split("\n")[0] for text in sections if "```console" not in text] == []
