"""The pool itself: many runs, a server that dies, what is left."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import pycontain
from pycontain.errors import HostError, StateError
from tests.sandbox.conftest import cgroups, processes

pytestmark = pytest.mark.needs_root


def test_a_thousand_runs_leave_nothing() -> None:
    with pycontain.Pool(2) as pool:
        pool.run("1")
        descriptors = len(os.listdir("/proc/self/fd"))
        with ThreadPoolExecutor(4) as threads:
            code = "import os\nopen('/tmp/x', 'w').write('x')\nif os.fork() == 0: os.setsid()\n"
            results = list(threads.map(lambda n: pool.run(f"{code}\n{n}"), range(1000)))
        assert [result.value for result in results] == list(range(1000))
        assert {result.reason for result in results} == {"exit"}
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 10
        for _ in range(20):  # what had not quite gone
            pool.run("1")
        (container,) = cgroups()
        runs = [entry for entry in os.scandir(pool_cgroup(container)) if entry.is_dir()]
        assert len(runs) < 12
    assert not cgroups()
    assert not processes()


def pool_cgroup(name: str) -> str:
    from pycontain.cgroup.place import find_mount, own

    return find_mount() + os.path.dirname(own()).rstrip("/") + "/" + name


def test_calls_wait_for_their_turn() -> None:
    with pycontain.Pool(2) as pool, ThreadPoolExecutor(6) as threads:
        code = "import time\nbegan = time.monotonic()\ntime.sleep(0.3)\n[began, time.monotonic()]"
        spans = [result.value for result in threads.map(lambda _: pool.run(code), range(6))]
    for moment, _ in spans:
        assert sum(began <= moment < ended for began, ended in spans) <= 2


def test_a_server_that_has_died_is_replaced(pool: pycontain.Pool) -> None:
    assert pool.run("1").value == 1
    os.kill(pool._source._process.pid, 9)
    time.sleep(0.2)
    assert pool.run("2").value == 2
    assert pool.run("3").value == 3


def test_a_run_whose_server_dies_is_killed(pool: pycontain.Pool) -> None:
    with ThreadPoolExecutor(1) as threads:
        run = threads.submit(pool.run, "import time\ntime.sleep(100)")
        time.sleep(0.5)
        os.kill(pool._source._process.pid, 9)
        result = run.result(20)
    assert (result.reason, result.status) == ("signal", 137)
    time.sleep(0.2)
    assert pool.run("2").value == 2


def test_a_server_is_replaced_after_many_runs(monkeypatch) -> None:
    from pycontain.sandbox import server as module

    monkeypatch.setattr(module, "_RUNS", 5)
    with pycontain.Pool(1) as pool:
        first = pool._source
        seeds = {pool.run("hash('a')").value for _ in range(8)}
        assert pool._source is not first
        assert len(seeds) > 1


def test_a_failing_import_is_an_error_of_the_pool() -> None:
    with pytest.raises(HostError, match="No module named 'nothing'"):
        pycontain.Pool(1, imports=["nothing"])


def test_modules_are_imported_already() -> None:
    with pycontain.Pool(1, imports=["decimal"]) as pool:
        assert pool.run("import sys; 'decimal' in sys.modules").value is True
        assert pool.run("import decimal; str(decimal.Decimal('1.10') + 1)").value == "2.10"


def test_files_are_given_and_collected(pool: pycontain.Pool) -> None:
    result = pool.run(
        "open('out/b', 'w').write(open('in/a').read() * 2)",
        files={"in/a": b"xy", "out/c": b""},
        collect=["out/b", "missing", "/tmp/x"],
    )
    assert result.ok, result.stderr
    assert result.files == {"out/b": b"xyxy"}


def test_a_closed_pool_refuses_runs() -> None:
    pool = pycontain.Pool(1)
    pool.close()
    pool.close()
    with pytest.raises(StateError, match="is closed"):
        pool.run("1")
