"""Fixtures of the tests that seal an interpreter."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.security.attack import PYTHON


@pytest.fixture
def folder():
    """A directory that every user can enter."""
    path = Path(tempfile.mkdtemp(prefix="sealed-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def victim(folder):
    """An interpreter that can be replaced, alone in its directory."""
    (folder / "bin").mkdir()
    path = folder / "bin/python3"
    shutil.copy(PYTHON, path)
    return path
