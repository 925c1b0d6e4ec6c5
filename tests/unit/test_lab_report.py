"""The marks for what a test needs, and the report of what ran where."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import capabilities

ROOT = Path(__file__).resolve().parents[2]

SUITE = """
import pytest

@pytest.mark.needs_root
def test_with_root(): pass

@pytest.mark.needs_moon
def test_on_the_moon(): pass

def test_anywhere(): pass
"""

MOON = """
from tests import capabilities
capabilities.NEEDS["needs_moon"] = ("the moon", lambda: "the moon")
pytest_plugins = ["tests.capabilities"]
"""


def suite(folder: Path, *options: str) -> str:
    """Run the suite above with the plugin; returns pytest's output."""
    (folder / "test_it.py").write_text(SUITE)
    (folder / "conftest.py").write_text(MOON)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull]
    command += ["--rootdir", str(folder), "-rs", "--strict-markers", *options, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=folder, env=environment
    )
    return done.stdout + done.stderr


def test_a_test_is_skipped_with_the_name_of_what_is_missing(tmp_path: Path) -> None:
    assert "needs the moon" in suite(tmp_path)


def test_the_machine_runs_the_tests_with_special_needs(tmp_path: Path) -> None:
    output = suite(tmp_path, "-m", "machine", "--collect-only", "-q")
    assert "test_on_the_moon" in output
    assert "test_with_root" not in output
    assert "test_anywhere" not in output


def write(path: Path, **outcomes: str) -> Path:
    """A JUnit report with the outcome of each named test."""
    inner = {"passed": "", "failed": "<failure/>", "skipped": '<skipped message="needs it"/>'}
    cases = "".join(
        f'<testcase classname="t" name="{name}">{inner[outcome]}</testcase>'
        for name, outcome in outcomes.items()
    )
    path.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    return path


def test_a_test_skipped_in_one_place_must_run_in_another(tmp_path: Path) -> None:
    host = write(tmp_path / "host.xml", one="passed", two="skipped", three="skipped")
    lab = write(tmp_path / "lab.xml", two="failed")
    text, whole = capabilities.report([host, lab])
    assert not whole
    assert "ran nowhere: t::three: needs it" in text
    assert "t::two" not in text
    assert capabilities.main([str(host), str(lab)]) == 1
    write(lab, two="passed", three="passed")
    assert capabilities.main([str(host), str(lab)]) == 0


def test_a_missing_report_is_a_failure(tmp_path: Path) -> None:
    assert capabilities.main([str(tmp_path / "none.xml")]) == 2
    assert capabilities.main([]) == 2


@pytest.mark.parametrize("need", sorted(capabilities.NEEDS))
def test_every_need_has_a_probe_that_answers(need: str) -> None:
    found = capabilities.missing(need)
    assert found is None or found
