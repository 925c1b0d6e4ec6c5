"""
The tests of containers, behind the wall of a virtual machine.

A test that is listed in `differences` must fail: else the difference is gone.
"""

from __future__ import annotations

import pytest

from tests.lifecycle.test_exec import *  # noqa: F403
from tests.lifecycle.test_hooks import *  # noqa: F403
from tests.lifecycle.test_kill import *  # noqa: F403
from tests.lifecycle.test_states import *  # noqa: F403
from tests.lifecycle.test_terminal import *  # noqa: F403
from tests.walls.conftest import require


@pytest.fixture
def runtime(runtime):
    """The command line, which puts each program into a virtual machine."""
    require("kvm")
    runtime.isolation = "kvm"
    return runtime
