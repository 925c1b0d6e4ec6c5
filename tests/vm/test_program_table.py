"""Unmodified programs of Debian print the same in a VM as natively, and end alike."""

from __future__ import annotations

import pytest

from tests.vm import program_table


@pytest.mark.parametrize("command", [command for _, command in program_table.rows()])
def test_a_command_does_in_a_vm_what_it_does_natively(command, needs_kvm):
    if lack := program_table.missing(command):
        pytest.skip(f"needs {lack}")
    native, vm = program_table.compare(command)
    assert vm == native


def test_the_page_shows_all_of_them_as_the_same():
    shown = program_table.PAGE.read_text().split("|---|---|---|\n")[1].splitlines()
    assert len(shown) == len(program_table.rows())
    assert [row for row in shown if not row.endswith("| yes |")] == []
    for (_, command), row in zip(program_table.rows(), shown, strict=True):
        assert program_table.shown(command) in row
