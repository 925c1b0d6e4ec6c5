"""What the tests of programs in a virtual machine share."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from pycontain.vm.program import World, run_program
from pycontain.vm.sink import Capture

BUSYBOX = shutil.which("busybox") or "/bin/busybox"
ENVIRONMENT = ["PATH=/bin", "TZ=UTC"]


def run(*arguments, engine="kvm", timeout=60, trace=None, **world):
    """Status, output, errors and the whole result of a program."""
    output, errors = Capture(), Capture()
    given = World(stdout=output, stderr=errors, **world)
    result = run_program(arguments, ENVIRONMENT, given, timeout=timeout, engine=engine, trace=trace)
    return result.ending.status, bytes(output.data), bytes(errors.data), result


def busybox(*words, **world):
    """Status, output and errors of an applet; busybox is at this path in the root of `files`, too."""
    return run("/bin/busybox", *words, **world)[:3]


@pytest.fixture
def files(tmp_path):
    """A root with a few files, and busybox in it."""
    if not os.access(BUSYBOX, os.X_OK):
        pytest.skip("needs a static busybox")
    (tmp_path / "bin").mkdir()
    shutil.copy(BUSYBOX, tmp_path / "bin/busybox")
    (tmp_path / "text").write_text("one two\nthree\n" * 1000)
    (tmp_path / "numbers").write_text("".join(f"{n}\n" for n in range(1, 2001)))
    (tmp_path / "big").write_bytes(bytes(range(256)) * 12345)
    (tmp_path / "dir/below").mkdir(parents=True)
    (tmp_path / "dir/link").symlink_to("/text")
    (tmp_path / "dir/out").symlink_to("../../../../../../../../etc/passwd")
    return tmp_path


@pytest.fixture
def compile_c(tmp_path):
    """A static program compiled from C source."""

    def build(text, *flags, compiler="gcc", name="program"):
        if not shutil.which(compiler):
            pytest.skip(f"needs {compiler}")
        source = tmp_path / f"{name}.c"
        source.write_text(text)
        subprocess.run(
            [compiler, "-O1", "-w", *(flags or ["-static"]), "-o", tmp_path / name, source],
            check=True,
        )
        return str(tmp_path / name)

    return build
