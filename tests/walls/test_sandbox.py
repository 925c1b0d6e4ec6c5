"""A sandbox whose programs run in virtual machines."""

from __future__ import annotations

import pytest

import pycontain


@pytest.fixture(autouse=True, scope="module")
def no_worker_survives():
    yield
    pycontain.close()


def test_python_runs_in_a_virtual_machine_on_the_files_of_the_sandbox(isolation):
    with pycontain.Sandbox(isolation=isolation, files={"in": b"b\na\n"}, timeout=60) as box:
        code = "import os; open('out', 'w').write('x'); [os.uname().release, sorted(open('in'))]"
        done = box.run_python(code)
        assert (done.error, done.value) == ("", ["5.14.0-pycontain", ["a\n", "b\n"]])
        assert box.read("out") == b"x"


def test_what_does_not_end_is_ended_with_its_reason(isolation):
    with pycontain.Sandbox(isolation=isolation, timeout=2) as box:
        assert box.run_python("while True: pass").reason == "timeout"


def test_a_pool_has_no_virtual_machines():
    with pytest.raises(pycontain.UsageError, match="isolation = 'kvm' is not offered by a pool"):
        pycontain.Pool(isolation="kvm")
