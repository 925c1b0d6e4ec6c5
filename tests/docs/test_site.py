"""The documentation: it is complete, its links lead somewhere, and it can be read on a phone."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import pycontain
from pycontain.cli.table import COMMANDS, GLOBALS
from tests.browser import browser

PROJECT = Path(__file__).parents[2]


def build(folder: Path, project: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)]
    return subprocess.run(command, cwd=project, check=False, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stderr
    return folder


def text(site: Path, page: str) -> str:
    return (site / page).read_text()


def test_every_command_and_option_is_in_the_reference(site):
    page = text(site, "reference/commands.html")
    for command in COMMANDS.values():
        assert f'<h2 id="{command.name}">' in page
        for flag in command.flags:
            assert f"--{flag.name}" in page
    assert all(f"--{flag.name}" in page for flag in GLOBALS)


def test_every_public_name_is_in_the_reference(site):
    page = text(site, "reference/python.html")
    for name in pycontain.__all__:
        if name != "__version__":
            assert f'.{name}" class="doc doc-heading">' in page, name


def test_the_steps_are_those_of_the_demo_bundle(site):
    page = text(site, "container.html")
    for step in ("reserve", "pivot", "seccomp", "execve"):
        assert f"<strong>{step}</strong>" in page


def test_a_link_that_leads_nowhere_fails_the_build(tmp_path):
    copied = ("docs", "mkdocs.yml", "rootfs", *(path.name for path in PROJECT.glob("*.md")))
    subprocess.run(["cp", "-r", *(str(PROJECT / name) for name in copied), tmp_path], check=True)
    assert build(tmp_path / "site", tmp_path).returncode == 0
    with (tmp_path / "docs/index.md").open("a") as file:
        file.write("\n[nowhere](nowhere.md)\n")
    assert build(tmp_path / "site", tmp_path).returncode != 0


@pytest.mark.needs_browser
@pytest.mark.parametrize("width", [1280, 390], ids=["a desktop", "a phone"])
def test_pages_are_as_wide_as_the_screen_and_fetch_nothing(site, tmp_path, width):
    pages = [path for path in site.rglob("*.html") if path.name != "404.html"]
    assert len(pages) >= 9
    with browser(tmp_path / "profile", width) as tab:
        for page in pages:
            seen = tab.look(page)
            assert not seen["overflows"], page
            assert all(name.startswith("file:") for name in seen["fetched"]), page
            assert seen["messages"] == [], page


def lists():
    spec = importlib.util.spec_from_file_location("docstrings", PROJECT / "docs/docstrings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.as_markdown


def test_lists_of_names_in_docstrings_become_lists():
    given = "What it is.\n\nid    its id\nkind  one of\n      two\n\nRaises Odd.\n"
    assert lists()(given) == (
        "What it is.\n\n- `id`: its id\n- `kind`: one of\n    two\n\nRaises Odd."
    )
