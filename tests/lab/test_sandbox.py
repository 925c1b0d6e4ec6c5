"""Sandboxes and pools on unified cgroup v2, where the kernel holds the limits of a whole run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import pycontain

Run = Callable[..., pycontain.SandboxResult]
pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cgroup2]

MEMORY = "import os\nfor _ in range(4):\n    if os.fork() == 0: break\nkept = []\nwhile True: kept.append(bytearray(b'x') * (1 << 20))"
FILES = "with open('/tmp/big', 'wb') as file:\n    while True: file.write(b'x' * (1 << 20))"
FORKS = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
TOUCH = "x = bytearray(b'x') * (40 << 20); len(x)"
SPIN = "import time\nbefore = time.process_time()\nend = time.monotonic() + 3\nwhile time.monotonic() < end: pass\ntime.process_time() - before"


@pytest.fixture(params=["sandbox", "pool"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs code with limits."""

    def run_once(code: str, **limits: Any) -> pycontain.SandboxResult:
        limits.setdefault("timeout", 120)
        if request.param == "pool":
            with pycontain.Pool(1, **limits) as pool:
                return pool.run(code)
        with pycontain.Sandbox(**limits) as box:
            return box.run_python(code)

    yield run_once
    pycontain.close()


def test_memory_of_all_processes_is_one_limit(run: Run) -> None:
    result = run(MEMORY, memory="100M")
    assert (result.reason, result.signal) == ("memory", 9)
    assert result.memory_peak <= 100 << 20


def test_files_count_as_memory(run: Run) -> None:
    assert run(FILES, memory="64M", disk="256M").reason == "memory"


def test_a_fork_bomb_ends_with_its_reason(run: Run) -> None:
    result = run(FORKS, pids=20)
    assert (result.reason, "pids" in result.hits) == ("pids", True)


def test_the_peak_is_that_of_the_run(run: Run) -> None:
    result = run(TOUCH)
    assert result.value == 40 << 20
    assert 40 << 20 <= result.memory_peak <= 256 << 20


def test_a_share_of_a_processor_is_held(run: Run) -> None:
    result = run(SPIN, cpus=0.2)
    assert isinstance(result.value, float), result
    assert result.value < 0.4 * 3  # of the three seconds; starting is not counted


def test_each_of_two_concurrent_runs_has_a_cgroup() -> None:
    with pycontain.Pool(2, memory="100M", timeout=120) as pool, ThreadPoolExecutor(2) as threads:
        hog = threads.submit(pool.run, MEMORY)
        good = threads.submit(pool.run, f"import time\n{TOUCH}\ntime.sleep(5); 1")
        assert hog.result().reason == "memory"
        assert good.result().value == 1, "the other run is not affected"
