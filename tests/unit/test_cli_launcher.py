from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from pycontain.cli import launcher, table
from pycontain.lean import archive


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("bin") / "pycontain"
    command = [sys.executable, "-m", "pycontain.cli.launcher", str(path)]
    subprocess.run(command, check=True)
    return path


def run(*command, **environment):
    return subprocess.run(
        command, env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, text=True,
        check=False, cwd="/",
    )  # fmt: skip


def test_the_program_runs_from_anywhere(program):
    done = run(program, "--version")
    assert done.stdout.splitlines()[0] == f"pycontain version {table.VERSION}"
    assert (done.returncode, done.stderr) == (0, "")


def test_the_program_is_executable_and_writable_by_its_owner_alone(program):
    mode = stat.S_IMODE(program.stat().st_mode)
    assert mode & 0o111
    assert not mode & 0o022


def test_the_program_shows_help(program):
    assert "Life cycle" in run(program, "--help").stdout


def test_the_program_ignores_pythons_environment_variables(program, tmp_path):
    (tmp_path / "os.py").write_text("raise SystemExit('taken over')")
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('taken over')")
    done = run(program, "--version", PYTHONPATH=str(tmp_path), PYTHONHOME=str(tmp_path))
    assert done.returncode == 0


def test_our_directories_come_after_the_standard_library(program):
    first, *lines = program.read_text().splitlines()
    assert first == f"#!{launcher.interpreter()} -BISXutf8"
    assert f"sys.path += {launcher.directories()!r}" in lines


def test_each_directory_is_named_once_and_exists():
    found = launcher.directories()
    assert len(found) == len(set(found))
    assert all(os.path.isabs(path) and os.path.isdir(path) for path in found)


def test_an_existing_program_is_replaced(tmp_path):
    path = tmp_path / "pycontain"
    path.write_text("old")
    launcher.write(str(path))
    assert path.read_text() == launcher.text()
    assert os.listdir(tmp_path) == ["pycontain"]


def test_a_path_that_cannot_be_written_is_an_error(tmp_path):
    path = tmp_path / "missing" / "pycontain"
    done = run(sys.executable, "-m", "pycontain.cli.launcher", str(path), PYTHONPATH=os.getcwd())
    assert done.returncode == 1
    assert "does not exist" in done.stderr


def test_the_archive_is_not_packed_from_the_working_directory(tmp_path):
    (tmp_path / "pycontain").mkdir()
    (tmp_path / "pycontain" / "__init__.py").write_text("raise SystemExit('taken over')")
    before = os.stat(archive.file()).st_mtime_ns
    command = [sys.executable, "-I", "-m", "pycontain.cli.pack"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert os.stat(archive.file()).st_mtime_ns > before


def test_compiled_modules_are_imported_without_a_search(program):
    output = run(sys.executable, "-c", _SEARCHES, str(program)).stdout
    assert output.split() == ["found", "_cffi_backend", "pycontain.kernel._vfork"]


# The program's own first lines, without the finder that searches directories.
_SEARCHES = """
import sys
text = open(sys.argv[1]).read().partition("from pycontain.cli")[0]
sys.argv[1:] = ["run"]
before = sys.path_hooks[:]
sys.path_hooks.clear()
sys.path_importer_cache.clear()
exec(text)
print("found", *sorted({"_cffi_backend", "pycontain.kernel._vfork"} & set(sys.modules)))
"""
