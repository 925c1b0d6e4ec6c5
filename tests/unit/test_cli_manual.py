from __future__ import annotations

import shutil
import subprocess

import pytest

from pycontain.cli import manual, table

PAGES = manual.pages("2026-01-31")


def test_the_manual_has_a_page_for_the_program_and_each_command():
    names = ["pycontain.1", *(f"pycontain-{name}.1" for name in table.COMMANDS)]
    assert list(PAGES) == names


@pytest.fixture
def folder(tmp_path):
    for name, text in PAGES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def output(*words):
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is missing")
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=60,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def test_mandoc_accepts_every_page(folder):
    assert output("mandoc", "-Tlint", *map(str, sorted(folder.iterdir()))) == ""


@pytest.mark.parametrize("name", PAGES)
def test_man_shows_every_page_without_a_warning(folder, name):
    shown = output("man", "--warnings", "-E", "UTF-8", "-l", str(folder / name))
    command = table.COMMANDS[name[10:-2]] if "-" in name else None
    flags = command.flags if command else table.GLOBALS
    for flag in flags:
        assert f"--{flag.name}" in shown
    assert (command.help.split()[-1] if command else "pycontain-exec(1)") in shown


def test_a_manual_page_has_the_line_that_whatis_looks_for(folder):
    said = output("lexgrog", str(folder / "pycontain.1"), str(folder / "pycontain-kill.1"))
    assert "pycontain - run containers from OCI bundles" in said
    assert "pycontain-kill - send a signal to a container" in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (".dot first", "\\&.dot first"),
        ("'quoted' a\\b", "\\(aqquoted\\(aq a\\eb"),
        ("--flag", "\\-\\-flag"),
    ],
)
def test_the_manual_shows_text_unchanged(text, expected):
    assert manual._paragraph(text) == expected
