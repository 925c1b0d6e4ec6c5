"""What callers pass by mistake is refused at once, with what to pass instead; nothing is left."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pycontain
from pycontain.errors import UsageError
from pycontain.sandbox import root

pytestmark = pytest.mark.needs_root


@pytest.fixture(scope="module")
def box() -> Iterator[pycontain.Sandbox]:
    with pycontain.Sandbox(files={"a": "text"}) as made:
        yield made


Call = Callable[[pycontain.Sandbox], object]

WRONG: dict[str, tuple[Call, str]] = {
    "words that are numbers": (lambda box: box.run(["python3", 1]), "args[1] = 1 is not a string"),
    "words that are bytes": (lambda box: box.run([b"python3"]), "args[0] = b'python3' is not"),
    "one string": (lambda box: box.run("ls"), 'is not a list of words; write ["ls", "-l"]'),
    "no code": (lambda box: box.run_python(None), "code = None is neither bytes nor text"),
    "half a character": (lambda box: box.run_python("'\udc80'"), "that UTF-8 cannot express"),
    "input of a program": (lambda box: box.run(["python3"], stdin=1), "stdin = 1 is neither"),
    "input of code": (lambda box: box.run_python("1", stdin=1), "stdin = 1 is neither bytes"),
    "a number for a path": (lambda box: box.write(1, b""), "path = 1 is not a path"),
    "a number for content": (lambda box: box.write("b", 1), "the content of b = 1 is neither"),
    "a place outside": (lambda box: box.read("/etc/passwd"), "is not below /work or /tmp"),
    "a variable": (lambda box: box.run(["python3"], env={"A": 1}), "env['A'] = 1 is not a string"),
    "a name of one": (lambda box: box.run(["python3"], env={"A=": "1"}), "use a string without ="),
    "a missing directory": (
        lambda box: box.run(["python3"], cwd="/made"),
        "cwd = /made is not a directory of the sandbox",
    ),
    "a relative directory": (lambda box: box.run(["python3"], cwd="a"), "is not a directory of"),
    "time as text": (lambda box: box.run_python("1", timeout="3"), "timeout = '3' is not a number"),
    "half a process": (lambda _: pycontain.Sandbox(pids=1.5), "pids = 1.5 is not a whole number"),
    "processes as text": (lambda _: pycontain.Sandbox(pids="5"), "pids = '5' is not a number"),
    "a number for an image": (lambda _: pycontain.Sandbox(image=3), "is not the name of an image"),
}


@pytest.mark.parametrize(("call", "why"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_refused_with_what_to_pass(box: pycontain.Sandbox, call: Call, why: str):
    with pytest.raises(UsageError) as caught:
        call(box)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_left_of_mistakes() -> None:
    """A run that had begun would be waited for, for ever; a directory would be seen by others."""
    before = set(os.listdir(root.python_root()))
    with pycontain.Sandbox() as box:
        for call, _ in WRONG.values():
            with pytest.raises(UsageError):
                call(box)
        assert not box._running
    assert set(os.listdir(root.python_root())) == before


def test_text_stands_for_its_bytes_and_a_path_for_its_name(box: pycontain.Sandbox) -> None:
    box.write(Path("d/é"), "ü")
    assert box.read(Path("d/é")) == "ü".encode()
    assert box.read("a") == b"text"
    assert [entry.name for entry in box.list(Path("d"))] == ["é"]
    assert box.run(["python3", "-c", "print(input())"], stdin="ö").text == "ö\n"
    assert box.run_python("input()", stdin="ö").value == "ö"
    script = "import os; print(os.getcwd())"
    assert box.run(["python3", "-c", script], cwd=Path("/work/d")).text == "/work/d\n"
    assert box.run(["python3", "-c", script], cwd="/usr/lib").text == "/usr/lib\n"


def test_only_a_missing_program_is_answered_with_other_root_file_systems(box) -> None:
    with pytest.raises(
        pycontain.ProgramError, match="there is Python alone: give rootfs= or image="
    ):
        box.run(["nosuch"])
    for args in (["/usr"], ["python3", "x" * 200_000]):
        with pytest.raises(pycontain.ProgramError) as caught:
            box.run(args)
        assert "rootfs=" not in str(caught.value)


def test_a_link_leads_to_no_directory_outside(box: pycontain.Sandbox) -> None:
    box.run_python("import os; os.symlink('/usr', 'usr'); os.symlink('/made', 'made')")
    with pytest.raises(UsageError, match="is not a directory of the sandbox"):
        box.run(["python3"], cwd="/work/made")


def test_a_pool_takes_the_same() -> None:
    with pycontain.Pool(1) as pool:
        found = pool.run("print(open('a').read(), input())", stdin="ö", files={"a": "ü"})
        assert found.text == "ü ö\n"
        with pytest.raises(UsageError, match=r"collect = 'a' is not a list of strings; give \['a'"):
            pool.run("1", collect="a")
        with pytest.raises(UsageError, match="neither bytes nor text"):
            pool.run("1", files={"a": 1})
        assert pool.run("2").value == 2
