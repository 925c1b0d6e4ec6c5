"""How `make faults` divides its tests among processes, and what it tells at the end."""

from __future__ import annotations

from tests.faults import figures
from tests.faults.__main__ import divided, verb_of

CALLS, KILLED = "tests/faults/test_calls.py::test_a_call", "tests/faults/test_killed.py::test_a"


def test_the_tests_of_a_verb_are_a_process_and_so_is_each_other_module():
    hooks = [f"tests/faults/test_hooks.py::test_a[start-{n}]" for n in "ab"]
    halts = [f"{KILLED}[run --detach-{what}]" for what in ("until the end", "and then goes on")]
    jobs = divided([f"{CALLS}[state]", f"{CALLS}[run]", *hooks, *halts])
    assert list(jobs.values()) == [hooks, [f"{CALLS}[run]"], halts, [f"{CALLS}[state]"]]


def test_the_verb_of_a_test_is_the_longest_that_fits():
    assert verb_of(f"{KILLED}[run, covered-until the end]") == "run, covered"
    assert verb_of(f"{KILLED}[kill --all]") == "kill --all"
    assert verb_of(f"{KILLED}[run-reserve]") == "run"


def test_figures_are_added_up(tmp_path, monkeypatch):
    path = tmp_path / "figures"
    monkeypatch.setenv(figures.VARIABLE, str(path))
    for kind, verb, number in (("killed", "run", 3), ("killed", "run", 4), ("halted", "exec", 5)):
        figures.add(kind, verb, number)
    rows = [line.split() for line in figures.table(path).splitlines()[1:]]
    assert rows == [
        ["exec", "0", "0", "0", "5"], ["run", "0", "0", "7", "0"], ["all", "0", "0", "7", "5"],
    ]  # fmt: skip
