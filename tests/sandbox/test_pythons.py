"""Sandboxes and pools on root file systems with another Python; `make pythons` makes more of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pycontain
from pycontain.errors import HostError, StateError
from pycontain.sandbox import root, users
from tests.sandbox.conftest import processes

pytestmark = pytest.mark.needs_root

HOME = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pycontain"
CACHE = Path(os.environ.get("PYCONTAIN_CACHE", HOME)) / "rootfs"
OTHERS = sorted(path for path in CACHE.glob("python-*") if "." not in path.name)


@pytest.fixture(params=["own", *(path.name for path in OTHERS)])
def python(request: pytest.FixtureRequest) -> Path:
    """A root file system with a Python."""
    return Path(root.python_root()) if request.param == "own" else CACHE / request.param


@pytest.fixture
def movable(tmp_path: Path) -> Path:
    """A copy of the root file system with this interpreter."""
    path = tmp_path / "root"
    subprocess.run(["cp", "-a", "--reflink=auto", root.python_root(), path], check=True)
    return path


def test_a_pool_runs_on_it(python: Path) -> None:
    with pycontain.Pool(2, rootfs=python, imports=["decimal"], timeout=60) as pool:
        assert pool.run("import sys; 'decimal' in sys.modules").value is True
        assert pool.run("import sys; sys.version_info >= (3, 8)").value is True
        result = pool.run("x = 1\n1 / 0")
        assert (result.reason, result.status) == ("exit", 1)
        assert b'File "<snippet>", line 2' in result.stderr
        assert pool.run("x").error.startswith("NameError"), "nothing stays"
        found = pool.run("print(open('a').read())", files={"a": b"given"}, collect=["a"])
        assert (found.text, found.files) == ("given\n", {"a": b"given"})
        assert pool.run("input()", stdin=b"line\n").value == "line"
        assert pool.run("while True: pass", timeout=0.5).reason == "timeout"
        flood = "with open('x', 'w') as file:\n    while True: file.write('x' * 100_000)"
        assert pool.run(flood).reason == "disk"


def test_a_session_runs_on_it(python: Path) -> None:
    with pycontain.Sandbox(rootfs=python, timeout=60) as box, box.session() as session:
        session.run("x = 41")
        assert session.run("x + 1").value == 42


def test_each_run_has_a_container_and_a_user_of_its_own(movable: Path) -> None:
    code = "import os; os.open('/tmp/x', os.O_CREAT | os.O_EXCL); [os.getuid(), os.getpid()]"
    with pycontain.Pool(2, rootfs=movable) as pool, ThreadPoolExecutor(4) as threads:
        values = [result.value for result in threads.map(lambda _: pool.run(code), range(12))]
        assert {pid for _, pid in values} == {1}
        assert {uid for uid, _ in values} == {uid for uid, _ in values} - {0}
    assert not processes()


def test_two_pools_and_a_sandbox_have_different_users() -> None:
    code = "import os; os.getuid()"
    with pycontain.Pool(1) as one, pycontain.Pool(1) as other, pycontain.Sandbox() as box:
        found = {one.run(code).value, other.run(code).value, box.run_python(code).value}
    assert len(found) == 3
    assert not users._taken


def test_a_directory_without_python_is_told(busybox_root: Path) -> None:
    with pytest.raises(HostError, match="has no python3; install Python 3.8"):
        pycontain.Pool(1, rootfs=busybox_root)


def test_an_import_that_fails_is_told(movable: Path) -> None:
    with pytest.raises(HostError, match="No module named 'nothing'"):
        pycontain.Pool(1, rootfs=movable, imports=["nothing"])


def test_closing_ends_what_runs(movable: Path) -> None:
    pool = pycontain.Pool(1, rootfs=movable, timeout=60)
    with ThreadPoolExecutor(1) as threads:
        run = threads.submit(pool.run, "import time\ntime.sleep(50)")
        time.sleep(0.5)
        began = time.monotonic()
        pool.close()
        with pytest.raises(pycontain.Interrupted):
            run.result(20)
    assert time.monotonic() - began < 20


# --- a Python that changes ------------------------------------------------------------------------


def test_an_upgraded_python_of_a_directory_is_used(movable: Path) -> None:
    with pycontain.Pool(1, rootfs=movable) as pool:
        assert pool.run("import string; hasattr(string, 'NEW')").value is False
        program = movable / "usr/bin/python3"
        (library,) = (movable / "usr/lib").glob("python3.*/string.py")
        library.write_text(library.read_text() + "\nNEW = True\n")
        shutil.rmtree(library.parent / "__pycache__")
        shutil.copy2(program, movable / "usr/bin/new")
        os.utime(movable / "usr/bin/new")
        os.rename(movable / "usr/bin/new", program)
        assert pool.run("import string; hasattr(string, 'NEW')").value is True


def test_a_directory_that_was_exchanged_is_noticed(movable: Path, tmp_path: Path) -> None:
    with pycontain.Sandbox(rootfs=movable) as box, pycontain.Pool(1, rootfs=movable) as pool:
        assert box.run_python("1").value == pool.run("1").value == 1
        os.rename(movable, tmp_path / "old")
        for run in (box.run_python, pool.run):
            with pytest.raises((StateError, HostError), match="rootfs = .*root"):
                run("2")
        os.rename(tmp_path / "old", movable)
        assert box.run_python("3").value == pool.run("3").value == 3


def test_an_upgraded_python_of_the_host_gets_another_root(monkeypatch, tmp_path: Path) -> None:
    before = root.python_root()
    changed = tmp_path / "os.py"
    changed.write_text("")
    with pycontain.Pool(1) as pool, pycontain.Sandbox() as box:
        pool.run("1")
        monkeypatch.setattr(root, "_sources", [*root._sources[:-1], str(changed)])
        after = root.python_root()
        assert after != before
        assert pool.run("2").value == box.run_python("2").value == 2
        assert pool._source._root == after
        monkeypatch.setattr(root, "_sources", [str(tmp_path / "moved")])
        assert root.python_root() == after, "the last one stays while it is gone"
        assert pool.run("3").value == box.run_python("3").value == 3
    os.close(root._found.pop(after))
    shutil.rmtree(after)


def test_a_python_that_is_gone_before_the_first_use_is_told(monkeypatch) -> None:
    monkeypatch.setattr(root, "_found", {})
    monkeypatch.setattr(root, "_sources", ["/nothing/python3"])
    with pytest.raises(HostError, match="moved or removed .*; start the program again"):
        root.python_root()


def test_a_run_goes_on_while_its_interpreter_is_replaced(monkeypatch) -> None:
    from pycontain.sandbox import server

    monkeypatch.setattr(server, "_RUNS", 3)
    with pycontain.Pool(2, timeout=60) as pool, ThreadPoolExecutor(1) as threads:
        first = pool._source
        began = threading.Event()
        code = "import time\nopen('/tmp/x', 'w').close()\ntime.sleep(3)\n'still here'"
        long = threads.submit(lambda: (began.set(), pool.run(code))[1])
        began.wait()
        time.sleep(0.2)
        for number in range(6):
            assert pool.run(str(number)).value == number
        assert pool._source is not first
        assert long.result(30).value == "still here"
