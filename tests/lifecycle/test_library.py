"""The library: `pycontain.run` and `pycontain.Container`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import pycontain
from tests.bundles import CONFIG, Bundles, wait_until
from tests.idmap import bundle_with_user


@pytest.fixture(autouse=True, scope="module")
def no_worker_survives():
    yield
    pycontain.close()


@pytest.fixture
def options(tmp_path: Path) -> pycontain.Options:
    return pycontain.Options(root=str(tmp_path / "state"))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def left(options: pycontain.Options) -> list[str]:
    return [name for name in os.listdir(options.root) if not name.startswith(".")]


def test_a_program_runs_and_its_output_comes_back(bundle: Bundles, options) -> None:
    path = bundle().path
    result = pycontain.run(
        path, ["sh", "-c", "cat; echo no >&2; exit 3"], stdin=b"hello", options=options
    )
    assert (result.status, result.reason, result.signal) == (3, "exit", 0)
    assert (result.stdout, result.stderr) == (b"hello", b"no\n")
    assert [step for _, step, _ in result.times][:2] == ["reserve", "cgroup"]
    assert left(options) == []


def test_more_output_than_a_pipe_holds_is_no_problem(bundle: Bundles, options) -> None:
    result = pycontain.run(bundle().path, ["cat"], stdin=b"x" * 1_000_000, options=options)
    assert len(result.stdout) == 1_000_000


def test_a_bundle_for_a_terminal_gets_pipes(bundle: Bundles, options) -> None:
    path = bundle("", {"process.terminal": True, "process.consoleSize": {"height": 5, "width": 9}})
    result = pycontain.run(path.path, ["sh", "-c", "test -t 1 || echo pipe"], options=options)
    assert result.stdout == b"pipe\n"


def test_a_home_with_a_nul_is_ignored(bundle: Bundles, options) -> None:
    made = bundle()
    (made.rootfs / "etc/passwd").write_bytes(b"root:x:0:0:r:/ro\0ot:/bin/sh\n")
    result = pycontain.run(made.path, ["sh", "-c", "echo $HOME"], options=options)
    assert result.stdout == b"/\n"


def test_environment_and_directory_can_be_given(bundle: Bundles, options) -> None:
    command = ["sh", "-c", "echo $WHO; pwd"]
    result = pycontain.run(bundle().path, command, env={"WHO": "me"}, cwd="/tmp", options=options)
    assert result.stdout == b"me\n/tmp\n"


def test_a_killed_program_gives_128_plus_the_signal(bundle: Bundles, options) -> None:
    command = ["sh", "-c", "sh -c 'kill -9 $$'; exit $?"]
    assert pycontain.run(bundle().path, command, options=options).status == 137
    with pycontain.Container(bundle().path, ["sleep", "100"], options=options) as container:
        container.create()
        container.start()
        container.kill("KILL")
        assert container.wait(10) == 137


def test_after_a_timeout_nothing_is_left(bundle: Bundles, options) -> None:
    with pytest.raises(pycontain.Timeout, match="longer than 0.2 s"):
        pycontain.run(bundle().path, ["sleep", "100"], timeout=0.2, options=options)
    assert left(options) == []


def test_a_missing_program_is_an_error_with_a_status(bundle: Bundles, options) -> None:
    with pytest.raises(pycontain.ProgramError, match="no such file or directory") as caught:
        pycontain.run(bundle().path, ["/bin/nosuch"], options=options)
    assert caught.value.fault.status == 127
    assert caught.value.fault.step == "find program"
    assert left(options) == []


def test_a_broken_bundle_names_what_is_wrong(tmp_path: Path, options) -> None:
    with pytest.raises(pycontain.SpecError, match=r"config\.json does not exist"):
        pycontain.run(tmp_path, options=options)


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"process": 5}', '{"process": {"env": 5}}'])
def test_a_broken_bundle_with_another_program_is_a_pycontain_error(
    tmp_path: Path, options, text
) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(pycontain.PycontainError):
        pycontain.run(tmp_path, ["ls"], env={"A": "b"}, options=options)


def test_a_program_that_is_not_text_is_a_pycontain_error(bundle: Bundles, options) -> None:
    made = bundle("sleep 100").path
    with pycontain.Container(made, options=options) as container:
        container.create()
        container.start()
        with pytest.raises(pycontain.UsageError):
            container.exec([1])
        assert container.exec(["echo", "1"]).stdout == b"1\n"


def test_the_verbs_work_on_a_live_container(bundle: Bundles, options) -> None:
    with pycontain.Container(bundle().path, ["sleep", "100"], options=options) as container:
        container.create()
        assert container.state()["status"] == "created"
        container.start()
        assert container.state()["status"] == "running"
        assert container.exec(["cat", "/proc/1/comm"]).stdout == b"sleep\n"
        assert container.exec(["sh", "-c", "exit 5"]).status == 5
        container.pause()
        assert container.state()["status"] == "paused"
        container.resume()
    assert left(options) == []


def test_an_exception_in_the_block_leaves_nothing(bundle: Bundles, options) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        pycontain.Container(bundle().path, ["sleep", "100"], options=options) as container,
    ):
        container.create()
        container.start()
        raise ZeroDivisionError
    assert left(options) == []


def test_threads_run_containers_at_once(bundle: Bundles, options) -> None:
    path = bundle().path
    outputs: list[bytes] = []

    def work(number: int) -> None:
        for _ in range(4):
            outputs.append(pycontain.run(path, ["echo", str(number)], options=options).stdout)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outputs) == sorted(
        f"{number}\n".encode() for number in range(5) for _ in range(4)
    )
    assert left(options) == []


def test_the_library_leaves_no_descriptor_open(bundle: Bundles, options) -> None:
    path = bundle().path
    pycontain.run(path, ["true"], options=options)
    before = descriptors()
    for _ in range(10):
        pycontain.run(path, ["true"], options=options)
    assert descriptors() == before


def test_a_killed_program_leaves_no_container(bundle: Bundles, options) -> None:
    """The worker outlives the program until it has cleaned up."""
    code = f"""
import pycontain, time
container = pycontain.Container({str(bundle().path)!r}, ["sleep", "100"],
                                options=pycontain.Options(root={options.root!r}))
container.create()
container.start()
print("ready", flush=True)
time.sleep(100)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        assert left(options) != []
        program.send_signal(signal.SIGKILL)
    for _ in range(200):
        if not left(options):
            return
        time.sleep(0.05)
    raise AssertionError(f"not deleted: {left(options)}")


def test_importing_costs_next_to_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import pycontain; print(set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert eval(done.stdout) == {"pycontain"}


# --- independence of calls and containers --------------------------------------------------------


def test_another_container_of_that_name_stays(runtime, bundle: Bundles) -> None:
    """Neither the failed call deletes it, nor the worker when its program exits."""
    made = bundle("", {"process.args": ["sleep", "100"]})
    id = runtime.started(made)
    program = f"""
import pycontain
try:
    pycontain.run({str(made.path)!r}, id={id!r}, options=pycontain.Options(root={str(runtime.root)!r}))
except pycontain.StateError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "exists already" in done.stdout, done.stderr
    assert runtime.state(id)["status"] == "running"


def test_the_call_after_an_interrupted_one_gets_its_own_answer(bundle: Bundles, options) -> None:
    """And the container of the interrupted call ends with the program."""
    made = bundle("", {"process.args": ["sleep", "100"]})
    program = f"""
import pycontain
from pycontain.library import pool
options = pycontain.Options(root={options.root!r})
def interrupt(*_):
    raise KeyboardInterrupt
receive, pool.receive = pool.receive, interrupt
try:
    pycontain.run({str(made.path)!r}, options=options)
except KeyboardInterrupt:
    pool.receive = receive
print(pycontain.run({str(made.path)!r}, ["echo", "second"], options=options).stdout)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("b'second\\n'\n", "")
    wait_until(lambda: left(options) == [], "the worker has deleted it")


def test_a_failed_bundle_changes_nothing_for_the_next(bundle: Bundles, options) -> None:
    """A worker enters a time namespace around its fork."""
    namespaces = [*CONFIG["linux"]["namespaces"], {"type": "time"}]
    offsets = {"monotonic": {"secs": -(10**15)}}
    late = bundle("", {"linux.namespaces": namespaces, "linux.timeOffsets": offsets})
    show = ["readlink", "/proc/self/ns/time"]
    with pytest.raises(pycontain.PycontainError, match="timeOffsets"):
        pycontain.run(late.path, options=options)
    mine = os.readlink("/proc/self/ns/time").encode()
    assert pycontain.run(bundle().path, show, options=options).stdout.strip() == mine


def test_poststop_hooks_run_when_a_poststart_hook_fails(bundle: Bundles, options) -> None:
    made = bundle("", {"process.args": ["sleep", "100"]})
    made.script("fail", "exit 1")
    made.script("stop", f"echo stopped > {made.path}/seen")
    hooks = {kind: [{"path": f"{made.path}/{name}"}] for kind, name in
             (("poststart", "fail"), ("poststop", "stop"))}  # fmt: skip
    made.edit({"hooks": hooks})
    with pytest.raises(pycontain.PycontainError, match="poststart"):
        pycontain.run(made.path, options=options)
    assert (made.path / "seen").read_text() == "stopped\n"


def test_a_worker_does_not_grow_with_its_containers(bundle: Bundles, options) -> None:
    """A container's memory is freed without the garbage collector, which is off."""
    path = bundle().path
    pycontain.close()
    for _ in range(30):
        pycontain.run(path, options=options)
    before = _worker_size()
    for _ in range(60):
        pycontain.run(path, options=options)
    assert _worker_size() - before < 128


def _worker_size() -> int:
    """KiB of a worker's anonymous memory."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    pid = max(int(pid) for pid in children if "worker" in Path(f"/proc/{pid}/cmdline").read_text())
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0])


@pytest.mark.needs_userns
def test_the_library_runs_containers_with_a_user_namespace(bundle: Bundles, options) -> None:
    """The network namespace that a worker makes ahead of time would belong to the host's."""
    script = "id; ip link set lo down && echo down; readlink /proc/self/ns/user"
    made = bundle_with_user(bundle, script)
    results = [pycontain.run(made.path, options=options) for _ in range(3)]
    lines = [result.stdout.decode().splitlines() for result in results]
    assert [line[:2] for line in lines] == [["uid=0 gid=0", "down"]] * 3, results
    assert os.readlink("/proc/self/ns/user") not in {line[2] for line in lines}
    assert left(options) == []
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    states = [
        Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in children
    ]
    assert "Z" not in states, "what a worker has created is waited for"


@pytest.mark.needs_userns
def test_a_failed_container_with_a_user_namespace_leaves_no_zombie(
    bundle: Bundles, options
) -> None:
    pycontain.run(bundle().path, options=options)  # starts the worker
    before = children()
    broken = bundle_with_user(bundle, changes={"process.args": ["/nosuch"]})
    with pytest.raises(pycontain.ProgramError):
        pycontain.run(broken.path, options=options)
    assert children() == before


def children() -> set[str]:
    """The children of this process, with those that nobody has waited for."""
    files = Path("/proc/self/task").glob("*/children")
    return {pid for file in files for pid in file.read_text().split()}


@pytest.mark.needs_userns
def test_the_library_enters_a_user_namespace(bundle: Bundles, options) -> None:
    made = bundle_with_user(bundle)
    with pycontain.Container(made.path, ["sleep", "100"], options=options) as container:
        container.create()
        container.start()
        assert container.exec(["id"]).stdout == b"uid=0 gid=0\n"
