"""What the tests of the examples share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

import pycontain


@pytest.fixture(autouse=True, scope="module")
def no_worker_survives() -> Iterator[None]:
    """The tests of faults, which follow, count the children of this process."""
    yield
    pycontain.close()
    gc.collect()
