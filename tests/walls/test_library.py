"""The library's `isolation`."""

from __future__ import annotations

import pytest

import pycontain
from pycontain.options import Options


@pytest.fixture(autouse=True, scope="module")
def no_worker_survives():
    yield
    pycontain.close()


@pytest.fixture
def options(tmp_path):
    return Options(root=str(tmp_path / "state"))


def test_run_puts_a_program_into_a_virtual_machine(bundle, options, isolation):
    done = pycontain.run(
        bundle("").path, ["uname", "-r"], isolation=isolation, options=options, timeout=60
    )
    assert (done.status, done.stdout) == (0, b"5.14.0-pycontain\n")


def test_exec_follows_the_container(bundle, options, isolation):
    made = bundle("while :; do sleep 0.1; done")
    with pycontain.Container(made.path, isolation=isolation, options=options) as container:
        container.create()
        container.start()
        assert container.exec(["uname", "-r"], timeout=60).stdout == b"5.14.0-pycontain\n"


def test_a_time_limit_ends_the_virtual_machine(bundle, options, isolation):
    with pytest.raises(pycontain.Timeout):
        pycontain.run(bundle("while :; do :; done").path, isolation=isolation, options=options,
                      timeout=1)  # fmt: skip


def test_another_isolation_is_a_mistake_of_the_caller(bundle):
    with pytest.raises(pycontain.UsageError, match="is not namespaces, kvm or emulate"):
        pycontain.run(bundle("").path, isolation="xen")
