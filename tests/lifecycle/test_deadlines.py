"""
A time limit and a signal end whatever a launch waits for, and nothing is left.

The bound itself, the limit and a second, is measured where nothing else runs; here it is loose
enough for a busy machine, but far below what the tests let things hang for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

import pycontain
from pycontain.lean import archive
from pycontain.library import container as library
from pycontain.library.pool import WorkerPool
from tests.bundles import look, wait_until

HANG = 600  # seconds that things hang for
LIMIT = 0.7  # seconds that a call is given
BOUND = 20  # seconds that it may take on a busy machine

# The steps of the bundles' children; what each does in a hanging child is never undone by it.
FORKED = ["guard", "root", "mount", "pivot", "user", "find program", "container hooks", "execve"]
SHARING = ["guard", "root", "mount", "pivot", "user", "find program"]

HANGING = """
import os, time
from pycontain.library.worker import serve
from pycontain.plan.walk import child_step

hang_at = os.environ["HANG_AT"]
perform = child_step.perform
def perform_or_hang(step, context):
    if step.name == hang_at:
        while True:
            time.sleep(1)
    perform(step, context)
child_step.perform = perform_or_hang
"""


@pytest.fixture
def options(tmp_path):
    return pycontain.Options(root=str(tmp_path / "state"))


@pytest.fixture
def unchanged():
    """Whatever the test does, afterwards the host is as before."""
    before = look()
    yield
    pycontain.close()
    assert look() == before


@pytest.fixture
def hanging(monkeypatch, tmp_path):
    """Workers whose children hang at the step that HANG_AT names."""
    (tmp_path / "hanging.py").write_text(HANGING)
    monkeypatch.syspath_prepend(tmp_path)
    command = archive.command
    monkeypatch.setattr(archive, "command", lambda path, _: command(path, "hanging:serve"))
    monkeypatch.setattr(library, "_pool", WorkerPool())
    yield lambda step: monkeypatch.setenv("HANG_AT", step)
    pycontain.close()


@pytest.fixture
def pool(monkeypatch):
    """A pool without a worker."""
    monkeypatch.setattr(library, "_pool", WorkerPool())
    yield library._pool
    pycontain.close()


def times_out(bundle, options, **changes):
    """Run a bundle that does not come to its end; there must be a Timeout, and nothing left."""
    began = time.monotonic()
    with pytest.raises(pycontain.Timeout, match=f"ran longer than {LIMIT:g} s"):
        pycontain.run(bundle("true", changes).path, timeout=LIMIT, options=options)
    assert time.monotonic() - began < BOUND
    assert left(options) == []


def left(options):
    root = Path(options.root)
    return [p.name for p in root.iterdir() if p.name[0] != "."] if root.exists() else []


HOOK = {"path": "/bin/sleep", "args": ["sleep", str(HANG)]}
FORKS = {"hooks.startContainer": [{"path": "/bin/true"}]}


@pytest.mark.parametrize("step", FORKED)
def test_a_forked_child_that_hangs_at_a_step_times_out(bundle, options, hanging, unchanged, step):
    hanging(step)
    times_out(bundle, options, **FORKS)


@pytest.mark.parametrize("step", SHARING)
def test_a_child_of_vfork_that_hangs_at_a_step_times_out(bundle, options, hanging, unchanged, step):
    hanging(step)
    times_out(bundle, options)


@pytest.mark.parametrize(
    "kind",
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"],
)
def test_a_hook_that_hangs_times_out(bundle, options, unchanged, kind):
    times_out(bundle, options, **{f"hooks.{kind}": [HOOK]})


def test_a_poststop_hook_that_hangs_is_a_warning(bundle, options, unchanged, capfd):
    began = time.monotonic()
    made = bundle("true", {"hooks.poststop": [HOOK]})
    assert pycontain.run(made.path, timeout=LIMIT, options=options).status == 0
    assert time.monotonic() - began < BOUND
    assert "poststop hooks" in capfd.readouterr().err
    assert left(options) == []


def test_a_process_that_a_hook_has_started_ends_with_the_hook(bundle, options, unchanged):
    script = f"sleep {HANG} & sleep {HANG}"
    times_out(
        bundle, options, **{"hooks.prestart": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    )


def test_a_configuration_in_a_fifo_without_a_writer_times_out(bundle, options, unchanged):
    made = bundle("true")
    (made.path / "config.json").unlink()
    os.mkfifo(made.path / "config.json")
    for words in ((), (["true"],)):
        with pytest.raises(pycontain.Timeout):
            pycontain.run(made.path, *words, timeout=LIMIT, options=options)


def test_exec_whose_process_hangs_while_it_joins_times_out(bundle, options, hanging, unchanged):
    hanging("join")
    with pycontain.Container(bundle("sleep 1000").path, options=options) as container:
        container.create()
        container.start()
        with pytest.raises(pycontain.Timeout):
            container.exec(["true"], timeout=LIMIT)
        assert container.state()["status"] == "running"


def stop(pid):
    """Stop a process; returns when it is."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(
        lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T",
        "it is stopped",
    )


def test_a_stopped_worker_is_replaced(bundle, options, unchanged, pool):
    """Another takes its place, and its other containers."""
    other = pycontain.Container(bundle("sleep 1000").path, options=options)
    other.create()
    [worker] = pool.free
    stop(worker.pid)
    times_out(bundle, pycontain.Options(root=options.root + "2"))
    [successor] = pool.free
    assert successor is not worker
    assert other.state()["status"] == "created"
    assert pycontain.run(bundle("echo on").path, options=options).stdout == b"on\n"
    pycontain.close()  # as at the end of the program
    assert left(options) == []
    assert other.wait() == 128 + signal.SIGKILL
    other.delete()


def test_a_worker_stopped_while_a_hook_runs_times_out(bundle, options, unchanged, pool, tmp_path):
    here = tmp_path / "here"
    script = f"kill -STOP $PPID; echo >{here}; sleep {HANG}"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script]}
    times_out(bundle, options, **{"hooks.createRuntime": [hook]})
    assert here.exists()


def test_only_the_containers_of_a_stopped_worker_are_deleted(runtime, bundle, pool):
    id = runtime.started(bundle("sleep 1000"))
    options = pycontain.Options(root=str(runtime.root))
    pycontain.run(bundle("true").path, options=options)
    [worker] = pool.free
    stop(worker.pid)
    with pytest.raises(pycontain.Timeout):
        pycontain.run(bundle("true").path, id=id, timeout=LIMIT, options=options)
    assert runtime.state(id)["status"] == "running"


# --- the command line ----------------------------------------------------------------------------

INTERRUPTED = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.mark.parametrize(("number", "status"), INTERRUPTED)
@pytest.mark.parametrize("verb", ["run", "create"])
@pytest.mark.parametrize("kind", ["prestart", "createContainer"])
def test_a_signal_ends_a_command_while_a_hook_hangs(runtime, bundle, verb, kind, number, status):
    made = bundle("true", {f"hooks.{kind}": [HOOK]})
    interrupt(runtime.command(verb, "-b", made.path, runtime.new_id()), runtime, number, status)
    assert runtime.ids() == []


def interrupt(command, runtime, number, status):
    """Send a signal once the command waits for something; it exits so, in one line."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            wait_until(lambda: polls(process.pid), "it waits")
            process.send_signal(number)
            process.wait(BOUND)
        finally:
            process.kill()
        said = process.stderr.read().decode()
        assert said.endswith(f"interrupted by signal {number}\n")
        assert said.count("\n") == 1
    assert process.returncode == status


def polls(pid):
    """Whether a process waits in poll(2) or ppoll(2), by their numbers on x86-64 and aarch64."""
    return Path(f"/proc/{pid}/syscall").read_text().split()[0] in ("7", "73", "271")


@pytest.mark.parametrize(("number", "status"), INTERRUPTED)
def test_a_signal_ends_a_command_that_waits_for_its_configuration(runtime, bundle, number, status):
    made = bundle("true")
    (made.path / "config.json").unlink()
    os.mkfifo(made.path / "config.json")
    interrupt(runtime.command("create", "-b", made.path, "x"), runtime, number, status)


@pytest.mark.parametrize(("number", "status"), INTERRUPTED)
def test_a_signal_ends_an_exec_that_waits_for_its_process(
    runtime, bundle, tmp_path, number, status
):
    id = runtime.started(bundle("sleep 1000"))
    os.mkfifo(tmp_path / "process")
    command = runtime.command("exec", "--process", tmp_path / "process", id)
    interrupt(command, runtime, number, status)
    assert runtime.state(id)["status"] == "running"


def test_a_second_signal_ends_the_poststop_hooks_of_an_interrupted_command(
    runtime, bundle, tmp_path
):
    prestart, poststop = tmp_path / "prestart", tmp_path / "poststop"
    hooks = {f"hooks.{path.name}": [says_that_it_hangs(path)] for path in (prestart, poststop)}
    command = runtime.command("run", "-b", bundle("true", hooks).path, runtime.new_id())
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            wait_until(prestart.exists, "the prestart hook runs")
            process.send_signal(signal.SIGTERM)
            wait_until(poststop.exists, "the poststop hook runs")
            process.send_signal(signal.SIGINT)
            process.wait(BOUND)
        finally:
            process.kill()
        said = process.stderr.read().decode()
    assert process.returncode == 143
    assert "poststop hooks: interrupted by signal 2" in said
    assert runtime.ids() == []


def says_that_it_hangs(path):
    """A hook that makes a file and hangs."""
    return {"path": "/bin/sh", "args": ["sh", "-c", f"echo >{path}; exec sleep {HANG}"]}
