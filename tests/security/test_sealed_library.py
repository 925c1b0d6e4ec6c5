"""
A dynamic interpreter is a small program; what matters is in its libpython, which is sealed, too.

A process with all capabilities in the initial user namespace can open the files that another has
mapped, and write to them: /proc/PID/map_files, proc_pid_map_files(5).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pycontain.kernel import seal
from pycontain.kernel.mounts import Tree
from tests.security.attack import mount_by_path
from tests.security.seals import elsewhere, lines_of, run

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_overlay,
    pytest.mark.needs_cc,
]

LIBRARY = "int answer(void) { return ANSWER; }"
PROGRAM = """
#include <stdio.h>
#include <unistd.h>
int answer(void);
int main(void) { printf("%d\\n", answer()); fflush(stdout); return getchar() < 0; }
"""


@pytest.fixture(params=["absolute", "relative", "default"])
def dynamic(request, folder):
    """A program as small as a dynamic Python's, and its libpython, where the loader looks for it."""
    (folder / "bin").mkdir()
    (folder / "lib").mkdir()
    path, library = folder / "bin/python9", folder / "lib/libpython9.9.so.1.0"
    build_library(library, 1)
    (folder / "main.c").write_text(PROGRAM)
    where = {"absolute": f"{folder}/lib", "relative": "$ORIGIN/../lib"}.get(request.param)
    flags = [f"-Wl,-rpath,{where}"] if where else []
    sources = [str(folder / "main.c"), str(library)]
    subprocess.run(["gcc", "-o", str(path), *sources, *flags], check=True)
    return path, library, request.param == "default"


def build_library(path, answer):
    source = path.with_suffix(".c")
    source.write_text(LIBRARY)
    new = path.with_suffix(".new")
    flags = [f"-DANSWER={answer}", "-shared", "-fPIC", f"-Wl,-soname,{path.name}"]
    subprocess.run(["gcc", "-o", str(new), str(source), *flags], check=True)
    new.replace(path)


def where_the_loader_looks(library, by_default):
    if by_default:  # as in a distribution that installs libpython among the system's libraries
        Path("/etc/ld.so.cache").resolve(strict=True)
        mount_by_path("tmpfs", "/usr/local/lib")
        shutil.copy2(library, "/usr/local/lib")
        mount_by_path("tmpfs", "/mnt")
        cache = Path("/mnt/cache")
        subprocess.run(["ldconfig", "-C", str(cache)], check=True)
        source, target = os.open(cache, os.O_PATH), os.open("/etc/ld.so.cache", os.O_PATH)
        Tree.clone(source).attach(target)


def mapped_and_writable(program):
    """Which libpython a running program has mapped, and whether root can write to it."""
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        running.stdout.readline()
        maps = lines_of(f"/proc/{running.pid}/maps")
        path, area = next(
            (words[5], words[0]) for line in maps for words in [line.split()]
            if len(words) > 5 and os.path.basename(words[5]) in ("lib", "libpython9.9.so.1.0")
        )  # fmt: skip
        start, end = (number.lstrip("0") for number in area.split("-"))
        try:
            os.close(os.open(f"/proc/{running.pid}/map_files/{start}-{end}", os.O_WRONLY))
            writable = True
        except OSError as error:
            writable = os.strerror(error.errno)
        running.communicate(b"\n")
    return path, writable


def test_a_dynamic_interpreter_is_sealed_with_its_library(dynamic):
    program, library, by_default = dynamic

    def work():
        where_the_loader_looks(library, by_default)
        return mapped_and_writable(seal.mounted(str(program)))

    folder = os.path.dirname(seal.place(str(program)))
    assert elsewhere(work) == [f"{folder}/lib", "Read-only file system"]


@pytest.mark.control
def test_the_library_of_an_unsealed_dynamic_interpreter_can_be_written_to(dynamic):
    program, library, by_default = dynamic

    def work():
        where_the_loader_looks(library, by_default)
        path, writable = mapped_and_writable(str(program))
        return os.path.basename(path), writable

    assert elsewhere(work) == [library.name, True]


@pytest.mark.parametrize("dynamic", ["absolute"], indirect=True)
def test_a_library_that_was_replaced_is_sealed_anew(dynamic):
    program, library, _ = dynamic

    def work():
        found = []
        for answer in (1, 2):
            build_library(library, answer)
            found.append(run(seal.mounted(str(program)), stdin=subprocess.DEVNULL).stdout)
        return found

    assert elsewhere(work) == ["1\n", "2\n"]
