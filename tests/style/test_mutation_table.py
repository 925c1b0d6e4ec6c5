"""Every step of the plan is named in the table of `make mutate`, which would not try it otherwise."""

from __future__ import annotations

from tests.mutation.__main__ import TESTED, mistakes

DEVICES = "tests/conformance/test_devices.py"


def test_the_table_names_each_step_once_and_nothing_else() -> None:
    assert [*mistakes(TESTED)] == []


def test_a_table_with_mistakes_is_noticed() -> None:
    """The control."""
    wrong = {**TESTED, DEVICES: ("FilterDevices", "MakeDevices", "MakeDevices", "Guard", "Odd")}
    assert {*mistakes({**wrong, "tests/none.py": ()})} == {
        "the step GiveCgroup is not in TESTED: name it once, where it is tested",
        "the step MakeDevices is more than once in TESTED: name it once, where it is tested",
        "the step LinkDevices is not in TESTED: name it once, where it is tested",
        "the step Guard is more than once in TESTED: name it once, where it is tested",
        "Odd in TESTED is no step: remove it",
        "tests/none.py in TESTED does not exist",
    }
