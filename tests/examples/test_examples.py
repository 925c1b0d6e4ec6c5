"""Every program of examples/ does what it says at its top."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
LIMIT = 300.0  # seconds
SUBMISSIONS = int(os.environ.get("SUBMISSIONS", "60"))

pytestmark = pytest.mark.needs_root

RIGHT = "a, b = map(int, input().split())\nprint(a + b)\n"
WRONG = {
    "answers_wrongly": ("print(3)", "case 2: printed &#x27;3&#x27;"),
    "raises": ("1 / 0", "case 1: ZeroDivisionError"),
    "loops": ("while True: pass", "case 1: ended by timeout"),
    "forks": ("import os\nwhile True: os.fork()", "case 1: "),
    "floods": ("while True: print('x' * 1000)", "case 1: ended by output"),
    "spies": ("print(open('/etc/shadow').read())", "case 1: FileNotFoundError"),
    "escapes_html": ("print('<script>')", "case 1: printed &#x27;&lt;script&gt;&#x27;"),
}


def run(name, *words, text=None, **environment):
    return subprocess.run(
        [sys.executable, EXAMPLES / name, *words], input=text, capture_output=True, text=True,
        timeout=LIMIT, check=True, env={**os.environ, **environment},
    )  # fmt: skip


def test_the_grader_grades_every_program(tmp_path):
    folder = tmp_path / "submissions"
    folder.mkdir()
    for number in range(SUBMISSIONS - len(WRONG)):
        (folder / f"student{number:04}.py").write_text(RIGHT)
    for name, (code, _) in WRONG.items():
        (folder / f"{name}.py").write_text(code)
    cases = tmp_path / "cases.json"
    cases.write_text(json.dumps([{"input": f"1 {n}", "expected": str(1 + n)} for n in (2, 3)]))
    done = run("grader.py", folder, cases, tmp_path / "report.html")
    right = SUBMISSIONS - len(WRONG)
    assert done.stdout.startswith(f"{right} of {SUBMISSIONS} programs passed every case")
    page = (tmp_path / "report.html").read_text()
    assert page.count("<td>2/2</td><td></td>") == right
    for name, (_, failure) in WRONG.items():
        assert f"<td>{name}</td>" in page
        assert failure in page.partition(f"<td>{name}</td>")[2].partition("</tr>")[0]


def test_the_loop_keeps_state_and_survives_what_ends_a_session():
    typed = "x = 41\n\nx + 1\n\n1 / 0\n\nx\n\nimport os; os._exit(3)\n\nx\n\n%reset\n2 + 2\n"
    shown = run("loop.py", text=typed).stdout
    assert "Out[2]: 42" in shown
    assert "ZeroDivisionError" in shown
    assert "Out[4]: 41" in shown
    assert "NameError: name 'x' is not defined" in shown
    assert "Out[7]: 4" in shown


def test_the_tool_server_answers_a_client():
    pytest.importorskip("mcp")
    import anyio
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    server = StdioServerParameters(command=sys.executable, args=[str(EXAMPLES / "tool_server.py")])

    async def talk():
        async with stdio_client(server) as streams, ClientSession(*streams) as client:
            await client.initialize()
            tools = {tool.name for tool in (await client.list_tools()).tools}
            assert tools == {"run_python", "write_file", "read_file"}

            async def ask(tool, **arguments):
                answer = await client.call_tool(tool, arguments)
                assert not answer.is_error, answer
                return answer.content[0].text

            await ask("write_file", path="in.txt", content="b a")
            assert await ask("run_python", code="words = open('in.txt').read().split()") == (
                "(no output)"
            )
            assert await ask("run_python", code="sorted(words)") == "['a', 'b']"
            ended = "[the interpreter has ended: timeout; its variables are lost]"
            assert await ask("run_python", code="while True: pass") == ended
            await ask("run_python", code="open('out.txt', 'w').write('made inside')")
            assert await ask("read_file", path="out.txt") == "made inside"

    anyio.run(talk)


def test_the_endpoint_runs_what_is_posted(monkeypatch):
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import endpoint
    from fastapi.testclient import TestClient

    with TestClient(endpoint.app) as client:

        def post(code, stdin=""):
            answer = client.post("/run", json={"code": code, "stdin": stdin})
            assert answer.status_code == 200, answer.text
            return answer.json()

        assert post("sum(range(10))")["value"] == 45
        assert post("print(input()[::-1])", "abc")["stdout"] == "cba\n"
        assert post("while True: print('x' * 1000)")["reason"] == "output"
        assert client.post("/run", json={"code": "x" * 200_000}).status_code == 422


TESTS = """
import os
import pytest

def test_here():
    assert os.path.isdir({folder!r})

@pytest.mark.sandboxed
def test_in_a_sandbox():
    assert not os.path.isdir({folder!r})

@pytest.mark.sandboxed(memory="64M", disk="1M")
def test_the_disk_is_small():
    with pytest.raises(OSError):
        open("/tmp/x", "wb").write(bytes(2 << 20))

@pytest.mark.sandboxed
def test_that_fails():
    assert 1 == 2

def test_with_the_fixture(sandbox):
    assert sandbox.run_python("6 * 7").value == 42
"""


def test_the_plugin_runs_marked_tests_in_a_sandbox(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS.format(folder=str(tmp_path)))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "sandboxed", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--rootdir", tmp_path, tmp_path], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES)}, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert "1 failed, 4 passed" in done.stdout, done.stdout
    assert "test_that_fails" in done.stdout
