"""What the tests of the two walls share: a runtime for each isolation that this host has."""

from __future__ import annotations

import os

import pytest

from tests.walls.differences import DIFFERENCES, NEVER


def require(isolation):
    """Skip, by name, what this host cannot run."""
    if isolation == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/kvm")
    if isolation == "emulate":
        pytest.importorskip("unicorn")


@pytest.fixture(params=["kvm", "emulate"])
def isolation(request):
    """Each kind of virtual machine."""
    require(request.param)
    return request.param


@pytest.fixture
def walled(runtime, isolation):
    """The command line, whose run and create put the program into a virtual machine."""
    runtime.isolation = isolation
    return runtime


def pytest_collection_modifyitems(items):
    """Mark what differs in the tests of containers."""
    for item in items:
        if item.path.name != "test_suite.py":
            continue
        names = {item.name, getattr(item, "originalname", item.name)}
        for name in names & NEVER.keys():
            item.add_marker(pytest.mark.skip(reason=NEVER[name]))
        for name in names & DIFFERENCES.keys():
            item.add_marker(pytest.mark.xfail(reason=DIFFERENCES[name], strict=True))
