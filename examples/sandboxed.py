"""
A pytest plugin: tests that run in a sandbox.

    pytest -p sandboxed        # with examples/ in PYTHONPATH

A test that is marked `sandboxed` runs in a sandbox of its own, with the file it is in and the
plain functions and imports there; the mark's arguments are the sandbox's limits. So a test of
untrusted or destructive code can neither reach nor damage the host.

    @pytest.mark.sandboxed(memory="64M", timeout=2)
    def test_it_fills_the_disk():
        with pytest.raises(OSError):
            open("/tmp/x", "wb").write(bytes(1 << 30))

The fixture `sandbox` gives an ordinary test a sandbox to use.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontain

RUNNER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("tested", "/work/tested.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
getattr(module, {name!r})()
"""


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark."""
    config.addinivalue_line("markers", "sandboxed(**limits): run this test in a sandbox")


@pytest.fixture
def sandbox() -> Iterator[pycontain.Sandbox]:
    """A sandbox with this environment's packages."""
    with pycontain.Sandbox(packages=_packages()) as box:
        yield box


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a marked test in a sandbox instead of here."""
    mark = pyfuncitem.get_closest_marker("sandboxed")
    if mark is None:
        return None
    source = Path(pyfuncitem.path).read_bytes()
    with pycontain.Sandbox(packages=_packages(), files={"tested.py": source}, **mark.kwargs) as box:
        result = box.run_python(RUNNER.format(name=pyfuncitem.originalname))
    if not result.ok:
        how = "" if result.reason == "exit" else f"ended by {result.reason}\n"
        pytest.fail(how + result.stderr.decode(errors="replace"), pytrace=False)
    return True


def _packages() -> list[str]:
    """Where pytest and what it needs are installed."""
    return [str(Path(pytest.__file__).parents[1])]
