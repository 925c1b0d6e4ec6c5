"""
Byte code that root's commands would write where somebody else decides what the path leads to.

Python caches what it compiles in `__pycache__` beside the source. Whoever owns that folder can make
`__pycache__` a link, and root creates or replaces files in the folder that it leads to.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import pycontain
from pycontain.cli import launcher
from pycontain.launch import recover
from pycontain.lean import archive

pytestmark = pytest.mark.needs_root

FLAGS = {
    "the launcher": launcher.text().splitlines()[0].split()[1],
    "a worker, the sealed restart and compare": archive.command("python", archive.PROGRAM)[1],
    "a recovery": recover.python("module:function")[2].decode(),
}


@pytest.fixture
def victim(tmp_path):
    """A folder that root alone may write to."""
    folder = tmp_path / "victim"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def checkout(tmp_path, victim):
    """A user's copy of the package; some of its caches are links to root's folder."""
    source = Path(pycontain.__file__).parent
    made = tmp_path / "user/pycontain"
    shutil.copytree(source, made, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("", "cli", "runtime", "launch"):
        (made / name / "__pycache__").symlink_to(victim)
    return made


def from_checkout(checkout, flags, monkeypatch):
    """Let root's commands be those of the checkout, which has no archive."""
    paths = [str(checkout.parent), *launcher.directories()]
    code = f"import sys; sys.path += {paths!r}; from pycontain.cli.fast import program; program()"
    monkeypatch.setattr("tests.bundles.COMMAND", [launcher.interpreter(), flags, "-c", code])


def caches(checkout):
    """The folders for byte code that were made."""
    return [path for path in checkout.rglob("__pycache__") if not path.is_symlink()]


@pytest.mark.parametrize("starter", FLAGS)
def test_root_writes_no_byte_code(runtime, bundle, checkout, victim, monkeypatch, starter):
    from_checkout(checkout, FLAGS[starter], monkeypatch)
    container = runtime.started(bundle("sleep 100"))
    runtime.ok("exec", container, "true")
    runtime.ok("delete", "--force", container)
    runtime.output(bundle("true"))
    assert list(victim.iterdir()) == caches(checkout) == []


@pytest.mark.control
def test_a_naive_root_writes_byte_code_where_a_link_leads(
    runtime, bundle, checkout, victim, monkeypatch
):
    from_checkout(checkout, archive.FLAGS.replace("B", ""), monkeypatch)
    runtime.output(bundle("true"))
    assert any(path.name.startswith("fast.") for path in victim.iterdir())
    assert caches(checkout) != []


@pytest.mark.parametrize("starter", FLAGS)
def test_every_python_is_started_alike(starter):
    """As one word: the first line of a script passes no more than one argument."""
    assert FLAGS[starter] == archive.FLAGS == "-BISXutf8"
