"""`pycontain setup` that is killed: the next one succeeds, and nothing is left of the first."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import audited, figures
from tests.faults.sample import sample

pytestmark = pytest.mark.needs_root

MOMENTS = 2
ROOT = Path(__file__).parents[2]
SETUP = "import sys; sys.path.insert(0, {site!r}); from pycontain.cli import launcher; launcher.write({program!r})"


@pytest.fixture
def setup(tmp_path: Path) -> Callable[[int], tuple[int, set[str]]]:
    """Packs a copy of the package and writes its program; returns the status and all files."""
    site = tmp_path / "site"
    shutil.copytree(
        ROOT / "pycontain", site / "pycontain", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "bin").mkdir()
    code = SETUP.format(site=str(site), program=str(tmp_path / "bin/pycontain"))

    def call(moment: int) -> tuple[int, set[str]]:
        script = f"import sys; sys.path.append({str(ROOT)!r}); sys.argv[1:] = {[str(tmp_path / 'count'), str(moment), code]!r}; import runpy; runpy.run_path({audited.__file__!r}, run_name='__main__')"
        command = [sys.executable, "-B", "-c", script]
        status = subprocess.run(command, check=False, timeout=120).returncode
        return status, {str(path) for path in tmp_path.rglob("*") if path.suffix != ".pyc"}

    return call


def test_what_a_killed_setup_has_left_is_removed_by_the_next(setup, tmp_path: Path) -> None:
    status, wanted = setup(-1)
    assert status == 0
    assert setup(-1) == (0, wanted), "it is counted as often as it is killed: over what is there"
    assert not {path for path in wanted if path.endswith(".new")}
    found, moments = (
        [],
        sample(range(audited.Count(str(tmp_path / "count")).value), MOMENTS, "setup"),
    )
    for moment in moments:
        assert setup(moment)[0] == -signal.SIGKILL
        status, files = setup(-1)
        found += [(moment, status, path) for path in files ^ wanted]
    figures.add("killed", "setup", len(moments))
    assert found == []


def test_the_halves_of_any_version_are_removed(setup, tmp_path: Path) -> None:
    """An upgrade has another name for the archive."""
    _, wanted = setup(-1)
    [archive] = tmp_path.glob("site/pycontain/lean/__pycache__/archive-*")
    left = [
        archive.with_name(f".archive-0.0.1.{sys.implementation.cache_tag}.abc.new"),
        tmp_path / "bin/.pycontain.abc.new",
    ]
    for path in left:
        path.touch()
    assert setup(-1) == (0, wanted), "and nothing else has changed"
