"""Fixtures of the tests of faults."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.faults.trial import Trials


@pytest.fixture
def trials(request, runtime, bundle) -> Iterator[Trials]:
    """Tries the verb whose name is the parameter."""
    gc.collect()  # what an earlier test has left open
    made = Trials(runtime, bundle, request.param)
    yield made
    made.close()
