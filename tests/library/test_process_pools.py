"""Calls in the processes of pools: every result and error comes back, and nothing is shared."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

import pycontain
from pycontain.library import container as library
from tests.bundles import Bundles, wait_until

pytestmark = [
    pytest.mark.needs_root,
    # fork with threads, which is what we test: Python 3.12 warns
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
KINDS = ["spawn", "fork", "forkserver"]
LIMIT = 120  # seconds


def echo(path: Path, options: pycontain.Options, word: str) -> pycontain.Result:
    return pycontain.run(path, ["echo", word], options=options)


def fail(path: Path, options: pycontain.Options) -> None:
    pycontain.run(path, ["/bin/nosuch"], options=options)


def sleep(path: Path, options: pycontain.Options) -> None:
    pycontain.run(path, ["sh", "-c", "echo so far; sleep 100"], timeout=1, options=options)


def test_a_result_can_be_pickled_copied_and_compared(bundle: Bundles, options) -> None:
    result = echo(bundle().path, options, "x")
    for again in (pickle.loads(pickle.dumps(result)), copy.copy(result), copy.deepcopy(result)):
        assert again == result
        assert again.times == result.times


def test_a_result_is_shown_in_one_line(bundle: Bundles, options) -> None:
    command = ["sh", "-c", "seq 1000; echo oh >&2"]
    result = pycontain.run(bundle().path, command, options=options)
    assert "times" not in repr(result)
    assert "\n" not in repr(result)
    assert len(repr(result)) < 400
    assert "(3893 bytes)" in repr(result)


@pytest.mark.parametrize("kind", KINDS)
def test_an_executor_gets_results_and_errors(bundle: Bundles, options, left, kind: str) -> None:
    path = bundle().path
    echo(path, options, "warm")  # a forked child finds a worker that is not its own
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context(kind)) as pool:
        calls = [pool.submit(echo, path, options, str(number)) for number in range(9)]
        failed, late = pool.submit(fail, path, options), pool.submit(sleep, path, options)
        assert [call.result(LIMIT).stdout for call in calls] == [b"%d\n" % n for n in range(9)]
        error = failed.exception(LIMIT)
        assert isinstance(error, pycontain.ProgramError)
        assert error.fault.status == 127
        timeout = late.exception(LIMIT)
        assert isinstance(timeout, pycontain.Timeout)
        assert timeout.stdout == b"so far\n"
        assert timeout.result is not None
        assert timeout.result.reason == "timeout"
    wait_until(lambda: left() == [], "nothing is left")


@pytest.mark.parametrize("kind", KINDS)
def test_a_multiprocessing_pool_gets_results(bundle: Bundles, options, left, kind: str) -> None:
    path = bundle().path
    echo(path, options, "warm")
    with multiprocessing.get_context(kind).Pool(2) as pool:
        words = [(path, options, str(number)) for number in range(6)]
        results = pool.starmap_async(echo, words).get(LIMIT)
        assert [result.stdout for result in results] == [b"%d\n" % n for n in range(6)]
        with pytest.raises(pycontain.ProgramError):
            pool.apply_async(fail, (path, options)).get(LIMIT)
        pool.close()
        pool.join()
    wait_until(lambda: left() == [], "nothing is left")


@pytest.mark.parametrize("kind", KINDS)
def test_a_pool_that_is_terminated_takes_its_containers_along(
    bundle: Bundles, options, left, kind: str
) -> None:
    path = bundle("sleep 1000").path
    with multiprocessing.get_context(kind).Pool(2) as pool:
        for _ in range(2):
            pool.apply_async(pycontain.run, (path,), {"options": options})
        wait_until(lambda: len(left()) == 2, "both run")
        pool.terminate()
    wait_until(lambda: left() == [], "nothing is left")


def forked(act) -> int:
    """The exit status of a forked child that does this."""
    pid = os.fork()
    if not pid:
        try:
            act()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_forked_while_threads_run_containers_can_run_some(bundle: Bundles, options) -> None:
    """Whatever locks and workers the threads hold at that moment."""
    path, stop = bundle().path, threading.Event()

    def work() -> None:
        while not stop.is_set():
            echo(path, options, "thread")

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(8):
            assert forked(lambda: echo(path, options, "child")) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_child_forked_during_the_first_calls_of_threads_can_run_a_container(
    bundle: Bundles, options
) -> None:
    """They import the library, and seal the interpreter, both under locks that a fork copies."""
    program = f"""
import os, pycontain, threading
def run():
    return pycontain.run({str(bundle().path)!r}, options=pycontain.Options(root={options.root!r}))
threads = [threading.Thread(target=run) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(3):
    child = os.fork()
    if not child:
        os._exit(run().status)
    print(os.waitpid(child, 0)[1])
for thread in threads:
    thread.join()
"""
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True
        ) as process:
            try:
                assert process.communicate(timeout=LIMIT)[0].split() == [b"0"] * 3
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise


def test_a_child_does_not_keep_the_input_of_a_container_open(
    bundle: Bundles, options, left
) -> None:
    """Its copy of the pipe would keep `cat` waiting for more."""
    path, result = bundle("sleep 0.5; cat").path, []
    thread = threading.Thread(
        target=lambda: result.append(pycontain.run(path, stdin=b"x", timeout=30, options=options))
    )
    thread.start()
    wait_until(lambda: left(), "it exists")
    child = os.fork()
    if not child:
        signal.pause()
    try:
        thread.join()
        assert result[0].stdout == b"x"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_forked_child_does_not_delete_its_parents_container(
    bundle: Bundles, options, left
) -> None:
    with pycontain.Container(bundle().path, ["sleep", "100"], options=options) as container:
        container.create()
        container.start()
        assert forked(lambda: container.__exit__(None, None, None)) == 0
        assert forked(lambda: container.exec(["true"])) == 0
        assert container.state()["status"] == "running"
    assert left() == []


def test_a_forked_child_does_not_end_its_parents_stream(bundle: Bundles, options, left) -> None:
    with pycontain.stream(bundle("echo x; sleep 1; echo y").path, options=options) as lines:
        assert next(lines) == b"x\n"
        assert forked(lines.close) == 0
        assert list(lines) == [b"y\n"]
    assert left() == []


def test_the_workers_of_a_killed_program_end_although_its_child_lives(
    bundle: Bundles, options, left
) -> None:
    path = bundle().path
    read, write = os.pipe()
    program = os.fork()
    if not program:
        container = pycontain.Container(path, ["sleep", "100"], options=options)
        container.create()
        grandchild = os.fork()
        if grandchild:
            os.write(write, b"%d" % grandchild)
        signal.pause()
    grandchild = int(os.read(read, 20))
    try:
        assert left() != []
        os.kill(program, signal.SIGKILL)
        os.waitpid(program, 0)
        wait_until(lambda: left() == [], "the worker has deleted it")
    finally:
        os.kill(grandchild, signal.SIGKILL)
        os.close(read)
        os.close(write)


def test_a_container_is_not_for_other_processes() -> None:
    with pytest.raises(TypeError, match="belongs to one process"):
        pickle.dumps(pycontain.Container("/nonexistent"))


# --- threads -------------------------------------------------------------------------------------


def test_many_threads_need_few_workers(bundle: Bundles, options, left) -> None:
    path, words = bundle().path, [str(number) for number in range(64)]
    pycontain.close()
    with ThreadPoolExecutor(len(words)) as threads:
        results = list(threads.map(lambda word: echo(path, options, word), words))
    assert [result.stdout.decode().strip() for result in results] == words
    assert left() == []
    assert len(library._pool.free) < 16 + 2 * (os.cpu_count() or 1)
    assert library._pool.busy == 0


def test_calls_do_not_wait_for_workers_that_run_hooks(bundle: Bundles, options, left) -> None:
    """However many there are: the last call lets all of them go on."""
    waiting, other = bundle(), bundle()
    many = 4 + 2 * (os.cpu_count() or 1)
    waiting.script("hook", f"until test -e {waiting.path}/go; do sleep 0.05; done")
    waiting.edit({"hooks": {"createRuntime": [{"path": f"{waiting.path}/hook"}]}})
    with ThreadPoolExecutor(many) as threads:
        calls = [threads.submit(pycontain.run, waiting.path, options=options) for _ in range(many)]
        wait_until(lambda: len(left()) == many, "all hooks run")
        assert echo(other.path, options, "x").stdout == b"x\n"
        (waiting.path / "go").touch()
        assert [call.result(LIMIT).status for call in calls] == [0] * many
    assert left() == []


def test_a_caller_that_ignores_its_children_has_hooks_waited_for(bundle: Bundles, options) -> None:
    made = bundle()
    made.script("hook", f"sleep 0.2; touch {made.path}/ran")
    made.edit({"hooks": {"createRuntime": [{"path": f"{made.path}/hook"}]}})
    program = f"""
import pycontain, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
try:
    pycontain.run({str(made.path)!r}, options=pycontain.Options(root={options.root!r}))
except pycontain.StateError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done
    assert (made.path / "ran").exists()
