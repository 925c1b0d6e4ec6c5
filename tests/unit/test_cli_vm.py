"""`pycontain vm run` and `compare`, given what they cannot run."""

from __future__ import annotations

from pathlib import Path

import pytest

from pycontain.cli import fast


def refusal(capfd, *words: str) -> str:
    assert fast.main(list(words)) != 0
    out, errors = capfd.readouterr()
    assert (out, errors.count("\n")) == ("", 1)
    return errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#!/bin/sh -e\necho\n", "is a script; run its interpreter, if that is static: -- /bin/sh -e"),
        ("root:x:0:0\n", "is text; give a static program"),
    ],
)  # fmt: skip
def test_a_vm_does_not_run_text_as_machine_code(capfd, tmp_path: Path, text: str, message: str):
    path = tmp_path / "file"
    path.write_text(text)
    assert f"{path} {message}" in refusal(capfd, "vm", "run", str(path))


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("nosuch-program", "executable file not found in $PATH"),
        ("/nosuch/program", "no such file or directory"),
        ("/etc/passwd", "permission denied"),
    ],
)
def test_compare_says_why_a_program_cannot_be_executed(capfd, program: str, reason: str) -> None:
    assert refusal(capfd, "compare", program) == f"pycontain: exec: {program} {reason}\n"
