"""docs/conformance.md: every property and rule of the specification has a test, and the page says so."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("conformance", PROJECT / "docs/conformance.py")
conformance = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(conformance)


def test_the_schema_has_223_properties_and_the_life_cycle_36_rules():
    assert len(conformance.facts()["schema"]["properties"]) == 223
    assert len(conformance.facts()["rules"]) == 36


@pytest.mark.parametrize("name", conformance.names())
def test_every_property_and_rule_is_shown_by_a_test(name):
    assert conformance.shown_by(name), f'mark a test with @pytest.mark.property("{name}")'


def test_every_mark_is_of_a_property_or_a_rule():
    assert conformance.unknown_marks() == []


def test_the_page_of_conformance_is_current():
    current = conformance.PAGE.read_text() == conformance.page()
    assert current, "write it again: python docs/conformance.py"


def test_no_cell_of_the_page_is_empty():
    rows = [line for line in conformance.page().splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 223 + 36
    assert [row for row in rows if "|  |" in row] == []


def test_a_pattern_means_what_its_star_can_stand_for():
    assert conformance.matches("hooks.*[].path", "hooks.prestart[].path")
    assert conformance.matches("linux.devices*", "linux.devices[].major")
    assert not conformance.matches("linux.devices", "linux.devices[].major")
