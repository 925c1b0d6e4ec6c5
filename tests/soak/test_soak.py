"""A short soak; `make soak` runs it for ten minutes."""

from __future__ import annotations

import os

import pytest

from tests.bundles import look
from tests.faults.trial import sweep
from tests.soak import invariants
from tests.soak.__main__ import soak
from tests.soak.invariants import complaints_about_output, problems

pytestmark = pytest.mark.needs_root

SEED = int(os.environ.get("PYCONTAIN_SEED", "0"))
WORKERS, OPERATIONS = 4, 100


def test_random_commands_and_faults_break_nothing(shared_mounts, tmp_path) -> None:
    print(f"PYCONTAIN_SEED={SEED}")
    outcome = soak(tmp_path, SEED, seconds=300, workers=WORKERS, ids=10, most=OPERATIONS)
    assert outcome.problems == []
    assert outcome.counts["operations"] == WORKERS * OPERATIONS
    assert outcome.counts["states checked"] > OPERATIONS
    assert outcome.counts["errors injected"] > 10


def test_a_container_whose_directory_is_lost_is_noticed(runtime, bundle, monkeypatch) -> None:
    """The control."""
    monkeypatch.setattr(invariants, "PATIENCE", 0.5)
    before, id = look(), runtime.started(bundle("sleep 100"))
    assert [*problems(runtime.root, id)] == []
    for path in (runtime.root / id).iterdir():
        path.unlink()
    (runtime.root / id).rmdir()
    [problem] = problems(runtime.root, id)
    assert "run on" in problem
    sweep(before)


def test_unexpected_output_is_noticed() -> None:
    assert [*complaints_about_output(["delete", "x"], 1, "", "pycontain: no\n")] == []
    assert [*complaints_about_output(["delete", "x"], 1, "", "Traceback (most\n")] != []
    assert [*complaints_about_output(["delete", "x"], None, "", "")] == ["it hangs"]
