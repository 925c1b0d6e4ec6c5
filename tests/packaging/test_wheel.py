"""The wheel, as somebody installs it who has nothing but Python: for each version at hand."""

from __future__ import annotations

import re
import zipfile

import pytest

import pycontain
from pycontain.cli import table
from pycontain.kernel import seal
from tests.packaging.conftest import ROOT, call, environment, python

pytestmark = pytest.mark.needs_root

LIBRARY = """
import sys, pycontain
result = pycontain.run(sys.argv[1], ["wc", "-c"], stdin=b"hello", timeout=60)
print(result.status, result.stdout.decode().strip())
pycontain.close()
"""


@pytest.fixture(scope="module", params=["3.11", "3.12", "3.13", "3.14"])
def interpreter(request):
    """A Python at hand, sealed as its first container would: that outlasts the test."""
    path = python(request.param)
    seal.mounted(path)
    return path


def test_one_wheel_works_in_an_empty_environment_of_each_python(
    interpreter, wheel, tmp_path, bundle, runtime
):
    """The command, a container, exec and the library; then nothing is left of it."""
    made = environment(tmp_path / "env", interpreter)
    before = made.files
    made.pip("install", "-qq", wheel)
    first, second = call(made.command, "--version"), call(made.command, "--version")
    assert first == second == f"pycontain version {table.VERSION}\nspec: 1.3.0\n"
    assert made.is_fast
    made.assert_listed()
    in_containers(made, bundle("exec sleep 100"), runtime)
    made.pip("uninstall", "-qq", "-y", "pycontain")
    left = {name for name in made.files - before if "pycontain" in name}
    assert left == set()


def in_containers(made, box, runtime):
    def command(*words):
        return call(made.command, "--root", runtime.root, *words)

    id = runtime.new_id()
    # the container would keep the ends of our pipes
    create = (made.command, "--root", runtime.root, "create", "-b", box.path, id)
    call("sh", "-c", 'exec "$@" >/dev/null 2>&1', "sh", *create)
    command("start", id)
    assert command("exec", id, "echo", "inside") == "inside\n"
    assert '"running"' in command("state", id)
    command("delete", "--force", id)
    box.edit({"process.args": ["echo", "contained"]})
    assert command("run", "-b", box.path, runtime.new_id()) == "contained\n"
    assert call(made.path / "bin/python", "-c", LIBRARY, box.path) == "0 5\n"


def test_the_wheel_is_for_every_python_and_distribution(wheel):
    assert wheel.name.split("-")[2:4] == ["cp311", "abi3"]
    assert wheel.name.split("-")[4].startswith("manylinux_2_34_")


def test_the_wheel_has_the_needed_files_and_no_others(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    assert {"pycontain/py.typed", "pycontain/kernel/_vfork.abi3.so"} <= set(names)
    assert {name.partition("/")[0] for name in names} == {
        "pycontain", f"pycontain-{pycontain.__version__}.dist-info",
    }  # fmt: skip
    sources = [path for path in (ROOT / "pycontain").rglob("*.*") if path.suffix != ".c"]
    packed = {str(path.relative_to(ROOT)) for path in sources if "__pycache__" not in path.parts}
    assert packed == {name for name in names if re.match("pycontain/.*[^/]$", name)}
