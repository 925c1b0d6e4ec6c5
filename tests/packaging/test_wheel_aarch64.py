"""The wheel for aarch64 is loaded and used, under qemu-user, where that is installed."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontain.cli import table
from tests.packaging.conftest import built, privately

pytestmark = pytest.mark.needs_root

PACKAGES = "python3,python3-cffi-backend,python3-prctl,libseccomp2"
USES = """
import platform
from pycontain.kernel import _bare, _vfork, calls, seccomp
from pycontain.spec import default
print(platform.machine(), _bare.__name__, _vfork.__name__)
import pycontain.library.container, pycontain.sandbox.sandbox, pycontain.sandbox.pool
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Debian for arm64 with the wheel in it; nothing of it was run to make it."""
    for tool, package in (
        ("mmdebstrap", "mmdebstrap"),
        ("qemu-aarch64-static", "qemu-user-static"),
    ):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is missing: apt-get install {package}")
    wheel = built("*_aarch64.whl")
    root = tmp_path_factory.mktemp("arm64") / "root"
    made = subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=extract", "--architectures=arm64",
         f"--include={PACKAGES}", "bookworm", str(root)],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"Debian's packages cannot be fetched: {made.stderr.strip().splitlines()[-1]}")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(root / "usr/lib/python3/dist-packages")
    yield root
    shutil.rmtree(root)


def in_root(root: Path, *words: str) -> str:
    """What a command prints in the root, where the emulator is the only program of this machine."""
    shutil.copy2(shutil.which("qemu-aarch64-static") or "", root / "usr/bin/emulator")
    (root / "proc").mkdir(exist_ok=True)
    script = (
        'root=$1; shift; mount --rbind /proc "$root/proc";'
        'exec /usr/sbin/chroot "$root" /usr/bin/emulator /usr/bin/python3.11 "$@"'
    )
    return privately(script, root, *words)


def test_its_compiled_modules_are_loaded(machine: Path) -> None:
    assert in_root(machine, "-c", USES).startswith("aarch64 ")


def test_its_command_runs(machine: Path) -> None:
    run = "import sys; from pycontain.cli.fast import main; sys.exit(main(sys.argv[1:]))"
    assert in_root(machine, "-c", run, "--version").startswith(f"pycontain version {table.VERSION}")
    features = in_root(machine, "-c", run, "features")
    assert '"SCMP_ARCH_AARCH64"' in features


def test_its_modules_are_for_that_machine_alone() -> None:
    with zipfile.ZipFile(built("*_aarch64.whl")) as file:
        compiled = [name for name in file.namelist() if name.endswith(".so")]
        assert compiled
        for name in compiled:
            header = file.read(name)[:20]
            assert (header[:4], header[18:20]) == (b"\x7fELF", b"\xb7\x00"), name  # EM_AARCH64
