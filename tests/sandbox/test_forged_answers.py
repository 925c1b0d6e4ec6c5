"""Code that writes to the socket of its interpreter's answers."""

from __future__ import annotations

import json
import os

import pytest

import pycontain
from pycontain.sandbox import supervise

pytestmark = pytest.mark.needs_root

FIND = """\
import os, stat
control = next(fd for fd in range(3, 64) if os.path.exists(f'/proc/self/fd/{fd}')
               and stat.S_ISSOCK(os.fstat(fd).st_mode))
import sys
frame = sys._getframe()
while 'mark' not in frame.f_locals:
    frame = frame.f_back
mark = frame.f_locals['mark']
def answer(data):
    data = data if isinstance(data, bytes) else data.encode()
    os.write(control, len(data).to_bytes(4, 'little') + mark + data)
"""
FORGED = '{"value": "forged", "shown": "forged"}'


def test_a_second_answer_is_not_that_of_the_next_run() -> None:
    with pycontain.Sandbox() as box, box.session() as python:
        forged = python.run(f"{FIND}\nfor _ in range(5):\n    answer({FORGED!r})\n'own'")
        assert forged.value == "forged", "it may answer for itself"
        assert python.run("6 * 7").value == 42
        assert python.run("6 * 8").value == 48


@pytest.mark.control
def test_a_naive_reader_takes_a_second_answer_for_that_of_the_next_run(monkeypatch) -> None:
    monkeypatch.setattr(supervise.os, "urandom", lambda _: b"same")
    with pycontain.Sandbox() as box, box.session() as python:
        python.run(f"{FIND}\nfor _ in range(5):\n    answer({FORGED!r})\n'own'")
        assert python.run("6 * 7").value == "forged"


@pytest.mark.parametrize(
    "head", [b"", b"\\xff\\xff\\xff\\xff"], ids=["answers", "one that never ends"]
)
def test_a_flood_of_answers_ends_the_run(head: bytes) -> None:
    """Without a time limit: reading it would cost this program's processor for ever."""
    code = f"{FIND}\nos.write(control, b'{head.decode('latin-1')}')\nwhile True:\n    os.write(control, b'\\xff' * 65536)"
    with pycontain.Sandbox(timeout=60) as box:
        assert box.run_python(code).reason == "output"
        with box.session() as python:
            assert python.run(code).reason in ("output",)
            assert python.ended
    with pycontain.Pool(1, timeout=60) as pool:
        assert pool.run(code).reason == "output"
        assert pool.run("1").value == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff\xfe\x00", b"[" * 100_000, b"1" * 10_000, b"null", b"[]", b'{"error": 5, "shown": {}}',
        b'{"kind": [], "errno": {}}', b'{"errno": true, "value": NaN}', b'{"errno": 1e400}',
        b'{"shown": "\\ud800", "error": "\\ud800", "kind": "\\ud800"}', b"", b"\x80\x04N.",
    ],
)  # fmt: skip
def test_any_answer_makes_a_result(answer: bytes, tmp_path) -> None:
    record = tmp_path / "record"
    record.touch(mode=0o600)
    with pycontain.Sandbox(record=record) as box:
        result = box.run_python(f"{FIND}\nanswer({answer!r})\nos._exit(0)")
    assert (result.reason, result.status) == ("exit", 0)
    assert isinstance(result.shown, str)
    assert isinstance(result.error, str)
    repr(result)
    for line in record.read_text().splitlines():
        json.loads(line)


def test_descriptors_that_are_sent_along_are_not_received() -> None:
    code = f"{FIND}\nimport socket\ns = socket.socket(fileno=os.dup(control))\nfor _ in range(50):\n    socket.send_fds(s, [b'x'], [1, 1, 1])"
    with pycontain.Sandbox() as box:
        box.run_python("1")
        before = len(os.listdir("/proc/self/fd"))
        box.run_python(code)
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("end", ["os.close(control)", "os.dup2(1, control)"])
def test_a_closed_socket_ends_the_session_and_no_more(end: str) -> None:
    with pycontain.Sandbox(timeout=5) as box:
        with box.session() as python:
            assert python.run(f"{FIND}\n{end}").reason in ("exit", "timeout", "signal")
            assert python.ended
        assert box.run_python("1").value == 1
