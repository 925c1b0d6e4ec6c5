"""
Whenever a worker of the library is killed, its program gets an error and can delete the rest.

The worker is another program, so it begins with a module that installs the counter of calls, which
shares a file with the test.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import pycontain
from pycontain.lean import archive
from pycontain.library import container as library
from pycontain.library.pool import WorkerPool
from pycontain.options import Options
from pycontain.runtime.delete import delete
from tests.bundles import TOKEN, look
from tests.faults import figures
from tests.faults.binding import HALT, KILL, STEP, Call, Fault, Shared
from tests.faults.sample import FULL, enough, sample
from tests.faults.trial import LIMIT, sweep, within
from tests.faults.verbs import VERBS

pytestmark = pytest.mark.needs_root

FAULTY = """
from pycontain.library.worker import serve as serve_soundly
from tests.faults import figures
from tests.faults.binding import Fault, Shared, install

def serve():
    install({fault!r}, Shared({path!r}))
    serve_soundly()
"""
MOMENTS = 10
_FULL = VERBS["run"].changes
CHANGES = {**_FULL, "process.args": ["true"], "mounts": _FULL["mounts"][:-1]}


class Workers:
    """Runs a container with a worker that something happens to."""

    def __init__(self, made: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = made
        self.folder = folder
        self.options = Options(root=str(folder / "state"))
        self.shared = Shared(str(folder / "shared"))
        self.numbers = count(1)
        self.module = ""
        command = archive.command
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setattr(archive, "command", lambda path, _: command(path, self.module))
        monkeypatch.setattr(library, "_pool", WorkerPool())

    def faulty(self, fault: Fault | None) -> pycontain.Container:
        """A container whose worker has this fault."""
        name = f"faulty{next(self.numbers)}"
        text = FAULTY.format(fault=fault, path=str(self.folder / "shared"))
        (self.folder / f"{name}.py").write_text(text)
        self.module = f"{name}:serve"
        return pycontain.Container(self.made.path, id=f"{TOKEN}-{name}", options=self.options)

    def run(self, fault: Fault | None) -> tuple[str, object]:
        """(the id, the result or the error) of a run whose worker has this fault."""
        container = self.faulty(fault)
        try:
            with container:
                return container.id, container.run()
        except pycontain.PycontainError as error:
            return container.id, error
        finally:
            pycontain.close()

    def moments(self) -> list[Call]:
        """The calls at which something happens: all, or the beginnings of some steps."""
        return sample(self.calls(), MOMENTS, "worker")

    def calls(self) -> list[Call]:
        """All calls, or the beginnings of the steps."""
        for _ in range(2):  # the first time, places in the rootfs are created
            self.shared.clear()
            _, result = self.run(None)
            assert getattr(result, "status", result) == 0
        return [call for call in self.shared.calls() if FULL or call.name == STEP]

    def left(self, id: str, before: Any) -> list[str]:
        """What is left after delete with force."""
        delete(self.options, id, force=True)
        within(3, lambda: look()[:3] == before[:3])
        found = [
            f"{kind} changed: {sorted(set(was) ^ set(now))}"
            for kind, was, now in zip(before._fields, before, look(), strict=True)
            if now != was
        ]
        sweep(before)
        return found


@pytest.fixture
def workers(bundle, tmp_path, monkeypatch, shared_mounts) -> Iterator[Workers]:
    gc.collect()  # what an earlier test has left open
    made = Workers(bundle("true", CHANGES), tmp_path, monkeypatch)
    yield made
    pycontain.close()
    made.shared.memory.close()


def test_a_worker_killed_at_any_step_leaves_nothing(workers):
    found, calls, happened = [], workers.moments(), 0
    before = look()
    for call in calls:
        workers.shared.clear()
        id, result = workers.run(Fault(call.process, call.call, KILL))
        happened += workers.shared.happened
        if not workers.shared.happened:
            continue  # it did not get so far this time
        found += unexpected(call, result)
        found += [f"{call}: {result}: {text}" for text in workers.left(id, before)]
    figures.add("killed", "library", happened)
    assert found == []
    assert enough(happened, len(calls))


def test_a_worker_killed_while_its_child_halts_leaves_nothing(workers):
    found, calls = [], workers.moments()
    before = look()
    for call in calls:
        workers.shared.clear()
        killer = threading.Thread(target=kill_the_worker, args=(workers.shared,))
        killer.start()
        id, result = workers.run(Fault(call.process, call.call, HALT))
        killer.join()
        found += unexpected(call, result)
        found += [f"{call}: {result}: {text}" for text in workers.left(id, before)]
        assert found == []
    figures.add("halted", "library", len(calls))


def test_a_container_that_could_not_be_undone_is_deleted_later(workers, monkeypatch):
    """A worker is killed while its child halts, and the first attempt to delete fails."""
    before = look()
    call = next(call for call in workers.calls() if call.detail == "guard")
    workers.shared.clear()
    attempts: list[bool] = []

    def delete_the_second_time(*args: Any, **named: Any) -> None:
        attempts.append(True)
        if len(attempts) == 1:
            raise pycontain.KernelError("is busy", at="the cgroup")
        delete(*args, **named)

    monkeypatch.setattr(library, "delete", delete_the_second_time)
    killer = threading.Thread(target=kill_the_worker, args=(workers.shared,))
    killer.start()
    container = workers.faulty(Fault(call.process, call.call, HALT))
    with pytest.raises(pycontain.KernelError, match="busy"), container:
        container.run()
    killer.join()
    pycontain.close()
    assert len(attempts) == 2
    assert workers.left(container.id, before) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_containers_of_a_lost_worker_are_deleted_with_the_program(workers, number):
    """Another worker takes them over, which deletes them when the program closes its socket."""
    other = workers.faulty(None)
    other.create()
    [lost] = library._pool.free
    os.kill(lost.pid, number)
    os.waitid(os.P_PID, lost.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    with workers.faulty(None) as container:
        try:
            container.run(timeout=1)
        except pycontain.Timeout:
            assert number == signal.SIGSTOP
    assert other.state()["status"] == "created"
    pycontain.close()
    assert other.id not in os.listdir(workers.options.root)
    os.waitpid(other._process.pid, 0)


def unexpected(call: Call, result: object) -> list[str]:
    """A launch has failed, unless the worker was killed after it had answered."""
    answered = call.name != STEP and getattr(result, "status", 1) == 0
    return [] if answered or isinstance(result, pycontain.PycontainError) else [f"{call}: {result}"]


def kill_the_worker(shared: Shared) -> None:
    """Once something halts: the worker is the only child of this program that runs Python."""
    if within(LIMIT, lambda: shared.happened):
        for pid in children():
            if b"faulty" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
    shared.may_go_on = True


def children() -> list[int]:
    return [
        int(pid)
        for task in os.listdir("/proc/self/task")
        for pid in Path(f"/proc/self/task/{task}/children").read_text().split()
    ]
