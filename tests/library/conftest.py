"""What the tests of the library share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pycontain


@pytest.fixture(autouse=True, scope="module")
def no_worker_survives() -> Iterator[None]:
    """Each file starts workers of its own."""
    yield
    pycontain.close()


@pytest.fixture
def options(tmp_path: Path) -> pycontain.Options:
    """A state root of the test's own."""
    return pycontain.Options(root=str(tmp_path / "state"))


@pytest.fixture
def left(options: pycontain.Options) -> Callable[[], list[str]]:
    """The containers that exist."""
    return lambda: (
        [name for name in os.listdir(options.root) if not name.startswith(".")]
        if os.path.isdir(options.root)
        else []
    )
