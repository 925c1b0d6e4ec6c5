"""SECURITY.md says what the tests show."""

from __future__ import annotations

import pytest

from tests.security import table

MODULES = table.modules()


def test_the_table_is_that_of_the_tests():
    text = table.PAGE.read_text()
    assert table.page(text) == text, "run python -m tests.security.table"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_each_threat_is_named_and_has_a_test_and_a_control(module):
    assert module.threat
    assert module.tests
    assert module.controls
