"""What a caller passes wrong is an error that says what to pass instead; nothing is started."""

from __future__ import annotations

from typing import Any

import pytest

import pycontain
from pycontain.library import arguments

NOWHERE = "/nonexistent"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("echo hi", r"args = 'echo hi' is a string, .* \['echo', 'hi'\], or add shell=True"),
        ("x " * 99, "give its words"),
        (b"echo", "is not a list of strings"),
        ([], r"args = \[\] is empty"),
        ((), "is empty"),
        (7, "is not a list of strings"),
        ({"echo"}, "is not a list of strings"),
        (["echo", 7], r"args\[1\] = 7 is not a string"),
        (["echo", b"x"], r"args\[1\] = b'x' is not a string"),
        ([None], r"args\[0\] = None"),
    ],
)
def test_an_invalid_command_is_refused(args: Any, message: str) -> None:
    with pytest.raises(pycontain.UsageError, match=message) as caught:
        pycontain.run(NOWHERE, args)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("args", [["echo"], "", None])
def test_a_command_for_the_shell_is_one_line(args: Any) -> None:
    with pytest.raises(pycontain.UsageError, match="is not one line for the shell"):
        pycontain.run(NOWHERE, args, shell=True)
    assert arguments.command("echo hi | cat", shell=True) == ["/bin/sh", "-c", "echo hi | cat"]


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan"), 1e9, "5", True, [1]])
def test_an_invalid_time_limit_is_refused(timeout: Any) -> None:
    with pytest.raises(pycontain.UsageError, match="timeout = .* is not"):
        pycontain.run(NOWHERE, timeout=timeout)
    with pytest.raises(pycontain.UsageError, match="timeout = .* is not"):
        pycontain.Container(NOWHERE).exec(["true"], timeout=timeout)


def test_infinity_is_no_time_limit() -> None:
    assert arguments.seconds(float("inf")) is None
    assert arguments.seconds(None) is None
    assert arguments.seconds(arguments.LONGEST) == arguments.LONGEST


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"A": 1}, r"env\['A'\] = 1 is not a string"),
        ({"A=B": "x"}, "env = 'A=B' is not the name"),
        ({"": "x"}, "env = '' is not the name"),
        ({7: "x"}, "env = 7 is not the name"),
        (["A=B"], "is not a mapping"),
    ],
)
def test_an_invalid_environment_is_refused(env: Any, message: str) -> None:
    with pytest.raises(pycontain.UsageError, match=message):
        pycontain.run(NOWHERE, env=env)


def test_the_directory_can_be_a_path_object() -> None:
    with pytest.raises(pycontain.UsageError, match="cwd = 7 is not a path"):
        pycontain.run(NOWHERE, cwd=7)  # type: ignore[arg-type]
