"""Programs, snippets, sessions and streams in a sandbox."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import pycontain
from pycontain.errors import Interrupted, ProgramError, StateError, UsageError

pytestmark = pytest.mark.needs_root


def test_a_snippet_prints_and_has_a_value(box: pycontain.Sandbox) -> None:
    result = box.run_python("print('hello')\n6 * 7")
    assert (result.status, result.reason, result.signal) == (0, "exit", 0)
    assert (result.text, result.value, result.shown, result.error) == ("hello\n", 42, "42", "")
    assert result.ok
    assert 0 < result.cpu_time < 5
    assert 0 < result.wall < 20
    assert result.hits == ()


@pytest.mark.parametrize(
    ("code", "value", "shown"),
    [
        ("None", None, ""),
        ("x = 1", None, ""),
        ("'ä'", "ä", "'ä'"),
        ("{'a': [1, 2.5, None, True]}", {"a": [1, 2.5, None, True]}, "{'a': [1, 2.5, None, True]}"),
        ("{1, 2}", None, "{1, 2}"),
        ("(1, 2)", None, "(1, 2)"),
        ("b'x'", None, "b'x'"),
        ("object", None, "<class 'object'>"),
        ("1; 2", 2, "2"),
        (
            "class A:\n    def __repr__(self): raise ValueError\nA()",
            None,
            "<repr failed: ValueError>",
        ),
    ],
)
def test_the_last_expression_is_the_value(
    box: pycontain.Sandbox, pool: pycontain.Pool, code: str, value, shown
) -> None:
    for result in (box.run_python(code), pool.run(code)):
        assert (result.status, result.value, result.shown) == (0, value, shown)


@pytest.mark.parametrize(
    ("code", "status", "stderr"),
    [
        ("import sys; sys.exit(3)", 3, b""),
        ("exit()", 0, b""),
        ("import sys; sys.exit('no')", 1, b"no\n"),
        ("raise SystemExit(256 + 7)", 7, b""),
        ("import os; os._exit(4)", 4, b""),
        ("import atexit, os; atexit.register(print, 'end'); atexit.register(os.write, 2, b'x')", 0, b"x"),
        ("import threading, time, os\nthreading.Thread(target=lambda: (time.sleep(0.2), os.write(2, b'late'))).start()", 0, b"late"),
    ],
)  # fmt: skip
def test_the_end_of_the_code_gives_status_and_stderr(
    box: pycontain.Sandbox, pool: pycontain.Pool, code: str, status, stderr
) -> None:
    for result in (box.run_python(code), pool.run(code)):
        assert (result.status, result.reason, result.stderr) == (status, "exit", stderr)


@pytest.mark.parametrize(
    "code", ["1/0", "def f():\n    1/0\nf()", "1 +", "raise KeyboardInterrupt"]
)
def test_an_exception_is_a_result(box: pycontain.Sandbox, pool: pycontain.Pool, code: str) -> None:
    for result in (box.run_python(code), pool.run(code)):
        assert (result.status, result.reason) == (1, "exit")
        assert result.stderr.startswith(
            (b"Traceback (most recent call last):\n", b'  File "<snippet>"')
        )
        assert b"snippet.py" not in result.stderr, "our own frames are not shown"
        assert result.error
        assert result.error.encode().split(b":")[0] in result.stderr


def test_input_is_read(box: pycontain.Sandbox, pool: pycontain.Pool) -> None:
    data = b"line\n" * 50_000
    code = "import sys; len(sys.stdin.read())"
    assert box.run_python(code, stdin=data).value == len(data)
    assert pool.run(code, stdin=data).value == len(data)
    assert box.run(
        ["python3", "-c", f"{code}\nprint(len(open('/dev/stdin').read()))"], stdin=data
    ).ok
    for result in (box.run_python("input()"), pool.run("input()")):
        assert result.error.startswith("EOFError")


def test_long_code_is_run(box: pycontain.Sandbox, pool: pycontain.Pool) -> None:
    code = "x = 1\n" * 100_000 + "x"
    assert box.run_python(code).value == 1
    assert pool.run(code).value == 1


def test_a_program_is_run(box: pycontain.Sandbox) -> None:
    result = box.run(
        ["python3", "-c", "import os, sys; print(os.getcwd(), os.environ['WHO']); sys.exit(3)"],
        env={"WHO": "me"},
        cwd="/tmp",
    )
    assert (result.status, result.text) == (3, "/tmp me\n")
    with pytest.raises(ProgramError):
        box.run(["nothing"])


def test_a_signal_is_a_reason(box: pycontain.Sandbox, pool: pycontain.Pool) -> None:
    for result in (
        box.run_python("import ctypes; ctypes.memset(0, 0, 1)"),
        pool.run("import os; os.kill(os.getpid(), 11)"),
    ):
        assert (result.status, result.reason, result.signal) == (139, "signal", 11)


def test_a_root_file_system_can_be_given(busybox_root: Path) -> None:
    with pycontain.Sandbox(rootfs=busybox_root, files={"in": b"b\na\n"}) as box:
        assert box.run(["sort", "in"]).text == "a\nb\n"
        assert "work" in box.run(["ls", "/"]).text
        assert not (busybox_root / "work").exists(), "nothing is created in it"
        assert box.run(["sh", "-c", "touch /bin/x"]).status != 0
        assert "Seccomp:\t2" in box.run(["cat", "/proc/self/status"]).text


def test_wrong_arguments_are_refused(box: pycontain.Sandbox) -> None:
    for wrong in ({"memory": "1K"}, {"memory": "much"}, {"timeout": -1}, {"timeout": float("nan")},
                  {"cpus": True}, {"disk": 0}, {"network": "none"}, {"network": ["x"]}, {"network": ["x:0"]}, {"network": [1]}, {"python": True, "rootfs": "/"}):  # fmt: skip
        with pytest.raises(UsageError):
            pycontain.Sandbox(**wrong)
    for args in ("echo hi", [], ()):
        with pytest.raises(UsageError):
            box.run(args)
    with pytest.raises(UsageError):
        pycontain.Pool(0)


def test_the_hosts_network_can_be_given() -> None:
    code = "import os; open('/proc/self/net/dev').read()"
    with pycontain.Sandbox(network="host") as box, pycontain.Sandbox() as alone:
        with open("/proc/self/net/dev") as file:
            ours = {line.split(":")[0].strip() for line in file if ":" in line}
        theirs = {
            line.split(":")[0].strip()
            for line in box.run_python(code).value.splitlines()
            if ":" in line
        }
        assert theirs == ours
        assert {"lo"} == {
            line.split(":")[0].strip()
            for line in alone.run_python(code).value.splitlines()
            if ":" in line
        }


def test_packages_of_the_host_can_be_given(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("answer = 42\n")
    tmp_path.chmod(0o755)
    with pycontain.Sandbox(packages=[tmp_path]) as box:
        assert box.run_python("import mine; mine.answer").value == 42
        assert box.run(["python3", "-c", "import mine; print(mine.answer)"]).text == "42\n"
        assert box.run_python("open('/packages/0/mine.py', 'a')").error.startswith(
            ("OSError", "PermissionError")
        )
    with pycontain.Pool(1, packages=[tmp_path], imports=["mine"]) as pool:
        assert pool.run("import mine; mine.answer").value == 42


# --- sessions ----------------------------------------------------------------------------------


def test_a_session_keeps_its_state(box: pycontain.Sandbox) -> None:
    with box.session() as python:
        assert python.run("x = 41; import math, os; os.chdir('/tmp')").ok
        assert python.run("x + 1").value == 42
        assert python.run("math.floor(2.5), os.getcwd()").shown == "(2, '/tmp')"
        result = python.run("print('out'); y = 1\n1/0")
        assert (result.status, result.text) == (1, "out\n")
        assert result.error == "ZeroDivisionError: division by zero"
        assert python.run("y").value == 1
        assert python.run("print('only this')").text == "only this\n"
        assert python.run("input()", stdin=b"typed\n").value == "typed"


def test_sessions_and_runs_share_the_files(box: pycontain.Sandbox) -> None:
    with box.session() as one, box.session() as other:
        one.run("open('/tmp/shared', 'w').write('x')")
        assert other.run("open('/tmp/shared').read()").value == "x"
        assert box.read("/tmp/shared") == b"x"


@pytest.mark.parametrize(
    ("code", "reason", "status"),
    [
        ("import sys; sys.exit(3)", "exit", 3),
        ("import ctypes; ctypes.memset(0, 0, 1)", "signal", 139),
        ("while True: pass", "timeout", 137),
        ("while True: print('x' * 1000)", "output", 137),
    ],
)
def test_a_session_that_ends_says_why(code: str, reason: str, status: int) -> None:
    with pycontain.Sandbox(output="1M") as box, box.session() as python:
        assert python.run("1").value == 1
        result = python.run(code, timeout=1)
        assert (result.reason, result.status) == (reason, status)
        with pytest.raises(StateError, match=f"has ended: {reason}, status {status}"):
            python.run("1")


# --- streams -----------------------------------------------------------------------------------

LINES = "import sys, time\nfor n in range(3): print(n, flush=True); time.sleep(0.3)\nsys.stdout.write('rest'); sys.exit(2)"


def test_lines_come_while_the_program_runs(box: pycontain.Sandbox) -> None:
    stream = box.stream(["python3", "-c", LINES])
    times = {line: time.monotonic() for line in stream}
    assert list(times) == [b"0\n", b"1\n", b"2\n", b"rest"]
    assert times[b"2\n"] - times[b"0\n"] > 0.3
    assert stream.result is not None
    assert (stream.result.status, stream.result.stdout) == (2, b"")


def test_lines_come_in_a_task(box: pycontain.Sandbox) -> None:
    async def lines() -> list[bytes]:
        return [line async for line in box.stream(["python3", "-c", LINES])]

    async def both() -> list[list[bytes]]:
        return await asyncio.gather(lines(), lines())

    expected = [b"0\n", b"1\n", b"2\n", b"rest"]
    assert asyncio.run(both()) == [expected, expected]


def test_leaving_a_stream_ends_the_program(box: pycontain.Sandbox) -> None:
    began = time.monotonic()
    with box.stream(["python3", "-uc", "import time\nprint(1)\ntime.sleep(100)"]) as stream:
        assert next(stream) == b"1\n"
    assert time.monotonic() - began < 50


# --- tasks -------------------------------------------------------------------------------------


def test_everything_runs_in_tasks() -> None:
    async def main() -> list[object]:
        async with pycontain.Sandbox() as box, pycontain.Pool(2) as pool:
            results = await asyncio.gather(
                box.run_python_async("1"),
                box.run_async(["python3", "-c", "print(2)"]),
                pool.run_async("3"),
            )
            async with box.session() as python:
                await python.run_async("x = 4")
                last = await python.run_async("x")
            return [results[0].value, results[1].text, results[2].value, last.value]

    assert asyncio.run(main()) == [1, "2\n", 3, 4]


def test_cancelling_a_task_ends_the_run_at_once(
    box: pycontain.Sandbox, pool: pycontain.Pool
) -> None:
    async def main() -> None:
        for work in (box.run_python_async("while True: pass"), pool.run_async("while True: pass")):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(work, 0.5)

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < 15
    assert pool.run("1").value == 1


def test_closing_a_sandbox_ends_its_runs() -> None:
    box = pycontain.Sandbox()
    ended: list[object] = []

    def run() -> None:
        try:
            box.run_python("while True: pass")
        except Interrupted as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.5)
    box.close()
    thread.join(10)
    assert len(ended) == 1


# --- records -----------------------------------------------------------------------------------


def test_results_can_be_copied_and_compared(box: pycontain.Sandbox) -> None:
    result = box.run_python("[1]")
    assert pickle.loads(pickle.dumps(result)) == result
    assert copy.deepcopy(result) == result
    assert "\n" not in repr(result)


def test_sandboxes_cannot_be_pickled(box: pycontain.Sandbox, pool: pycontain.Pool) -> None:
    for each in (box, pool):
        with pytest.raises(TypeError, match="belongs to one process"):
            pickle.dumps(each)


def test_runs_are_logged(tmp_path: Path, caplog) -> None:
    record = tmp_path / "runs.jsonl"
    with caplog.at_level(logging.INFO, "pycontain"):
        with pycontain.Sandbox(record=record) as box, pycontain.Pool(1, record=record) as pool:
            box.run(["python3", "-c", "print(1)"])
            box.run_python("1/0")
            pool.run("print('x')")
            with box.session() as python:
                python.run("1\n2")
    entries = [json.loads(line) for line in record.read_text().splitlines()]
    assert [entry["kind"] for entry in entries] == ["run", "python", "pool", "session"]
    assert [entry["what"] for entry in entries] == [
        "python3 -c print(1)",
        "1/0",
        "print('x')",
        "1\n2",
    ]
    assert [entry["status"] for entry in entries] == [0, 1, 0, 0]
    assert [entry["stdout"] for entry in entries] == [2, 0, 2, 0]
    assert record.stat().st_mode & 0o77 == 0
    assert "pool ended: exit, status 0" in caplog.text


def test_a_program_that_python_alone_does_not_bring_is_an_error_with_the_remedy():
    with pycontain.Sandbox() as box:
        with pytest.raises(pycontain.ProgramError) as caught:
            box.run(["sort", "in.csv"])
    assert "sort" in str(caught.value)
    assert caught.value.fault.remedy == "there is Python alone: give rootfs= or image="


def test_full_files_are_blamed_only_for_what_they_have_ended(busybox_root: Path) -> None:
    with pycontain.Sandbox(rootfs=busybox_root, disk="1M") as box:
        filling = box.run(["dd", "if=/dev/zero", "of=full", "bs=64k"])
        assert (filling.reason, filling.hits) == ("disk", ("disk",))
        assert box.run(["sh", "-c", "exit 3"]).reason == "exit", "it has not written anything"
        assert box.run(["false"]).hits == ()
        assert box.run(["sh", "-c", "echo more > more"]).reason == "disk"
        assert box.run(["rm", "full"]).ok
        assert box.run(["sh", "-c", "echo more > more; exit 3"]).reason == "exit"


def test_what_was_full_only_for_a_moment_is_seen(busybox_root: Path) -> None:
    fill = "dd if=/dev/zero of=full bs=64k; status=$?; sleep 0.2; rm full; exit $status"
    with pycontain.Sandbox(rootfs=busybox_root, disk="1M") as box:
        assert box.run(["sh", "-c", fill]).reason == "disk"


def test_a_user_without_rights_and_an_unknown_argument_are_told_in_one_line() -> None:
    code = """
import pycontain
for call in (pycontain.Sandbox, pycontain.Pool, lambda: pycontain.Sandbox(memroy="1G")):
    try:
        call()
    except (pycontain.HostError, TypeError) as error:
        print(error)
"""
    how = {"user": 12345, "group": 12345, "extra_groups": [], "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", code], check=False, **how)
    assert done.stderr == ""
    first, second, third = done.stdout.splitlines()
    assert first == second
    assert first.startswith("a sandbox needs root; use sudo")
    assert third == "a sandbox has no argument memroy"
