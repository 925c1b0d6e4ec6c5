"""The wheel on the newest Python of Debian, 3.14 or later, in a root file system with that alone."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontain.cli import table
from tests.packaging.conftest import privately

pytestmark = pytest.mark.needs_root

PACKAGES = (
    "python3", "python3-pip", "python3-cffi", "python3-jeepney", "python3-prctl",
    "python3-pyroute2", "python3-typer", "libseccomp2", "coreutils", "dash",
)  # fmt: skip
# Not chroot(1): a process that enters another mount namespace leaves that again. setns(2)
ENTER = """
root=$1 script=$2
mount --bind "$root" "$root"
for each in proc sys dev; do mount --rbind "/$each" "$root/$each"; done
for each in run tmp; do mount -t tmpfs none "$root/$each"; done
cd "$root"
/usr/sbin/pivot_root . mnt
HOME=/root exec sh -euc "cd /; $script"
"""
LIBRARY = """
import sys
import pycontain

result = pycontain.run("/bundle", ["wc", "-c"], stdin=b"hello", timeout=60)
print(result.status, result.stdout.decode().strip())
with pycontain.Sandbox() as box:
    print(box.run_python("import sys; list(sys.version_info[:2])").value == list(sys.version_info[:2]))
with pycontain.Pool(1, imports=["json"]) as pool:
    print(pool.run("import json; json.loads('[1]')").value)
pycontain.close()
"""


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Iterator[Path]:
    """A Debian with that Python, the packages that the wheel needs, and the wheel."""
    if shutil.which("mmdebstrap") is None:
        pytest.skip("mmdebstrap is missing: apt-get install mmdebstrap")
    root = tmp_path_factory.mktemp("sid") / "root"
    made = subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=extract", f"--include={','.join(PACKAGES)}",
         "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
         "--aptopt=Acquire::Check-Valid-Until false", "sid", str(root)],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"Debian's packages cannot be fetched: {made.stderr.strip().splitlines()[-1]}")
    for name in ("proc", "sys", "dev", "run", "tmp", "root", "mnt"):
        (root / name).mkdir(exist_ok=True)
    shutil.copy2(wheel, root / "root")
    # no index: what the wheel requires is there, or it is an error
    flags = (
        "--no-index --use-deprecated=legacy-certs --break-system-packages --root-user-action=ignore"
    )
    within(root, f"python3 -m pip install -q {flags} /root/*.whl")
    yield root
    shutil.rmtree(root)


def within(root: Path, script: str) -> str:
    """What a shell script prints whose root directory this is."""
    return privately(ENTER, root, script)


def test_the_command_and_the_library_work_on_the_newest_python(debian: Path, busybox_root) -> None:
    version = within(debian, "python3 -c 'import sys; print(*sys.version_info[:2])'").split()
    assert tuple(map(int, version)) >= (3, 14)
    shutil.copytree(busybox_root, debian / "bundle/rootfs", symlinks=True)
    (debian / "root/library.py").write_text(LIBRARY)
    printed = within(
        debian,
        "pycontain --version; pycontain --version; read -r line </usr/local/bin/pycontain; echo $line;"
        "pycontain run --rootfs /bundle/rootfs echo contained;"
        "pycontain spec --rootfs /bundle/rootfs true >/bundle/config.json;"
        "python3 /root/library.py",
    )
    *versions, launcher, contained, run, sandbox, pool = printed.strip().splitlines()
    assert versions == [f"pycontain version {table.VERSION}", "spec: 1.3.0"] * 2
    assert launcher.endswith(" -BISXutf8")
    assert contained == "contained"
    assert "Usage: pycontain run" in within(debian, "pycontain run --help")
    assert (run, sandbox, pool) == ("0 5", "True", "[1]")
