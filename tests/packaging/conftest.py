"""Pythons, and environments into which the wheel of `make wheel` is installed."""

from __future__ import annotations

import csv
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 600.0
"""Seconds after which a hanging command fails its test; pip builds and compiles meanwhile."""


def call(*command: object, **how: object) -> str:
    """What a command that must succeed prints, with an ordinary environment."""
    how.setdefault("env", {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"})
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=False, **how,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
    return done.stdout


def privately(script: str, *words: object) -> str:
    """What a shell script prints in a mount namespace of its own: $1 and so on are the words."""
    return call("unshare", "--mount", "sh", "-euc", script, "sh", *words)


def python(version: str) -> str:
    """A Python of this version, "3.12"; the test is skipped if there is none."""
    homes = sorted(
        Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/*/bin")
    )
    places = ["/usr/bin", "/usr/local/bin", *map(str, homes), os.environ["PATH"]]
    found = shutil.which(f"python{version}", path=":".join(places))
    if found is None:
        pytest.skip(f"Python {version} is missing")
    return os.path.realpath(found)


def built(pattern: str) -> Path:
    """A file of `make wheel`."""
    found = list((ROOT / "dist").glob(pattern))
    if not found:
        pytest.skip("the wheel is missing: make wheel")
    return found[0]


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The wheel for this machine."""
    return built(f"*_{platform.machine()}.whl")


class Environment(NamedTuple):
    """A virtual environment, or another place to install to."""

    path: Path
    site: Path

    @property
    def command(self) -> Path:
        """The command as installed."""
        return self.path / "bin/pycontain"

    @property
    def archives(self) -> list[Path]:
        """What is packed in it, half written files included."""
        return sorted(self.site.glob("pycontain/lean/__pycache__/archive-*"))

    @property
    def is_fast(self) -> bool:
        """Whether the command is the launcher, and there is one archive."""
        return "-BISXutf8" in self.command.read_text().splitlines()[0] and len(self.archives) == 1

    @property
    def files(self) -> set[str]:
        """All files, without the byte code that was compiled meanwhile."""
        return {
            str(path.relative_to(self.path))
            for path in self.path.rglob("*")
            if path.suffix != ".pyc" and path.name != "__pycache__"
        }

    def pip(self, *words: object) -> None:
        """Run the environment's pip."""
        call(self.path / "bin/python", "-m", "pip", *words, env=PIP)

    def assert_listed(self) -> None:
        """The installer's list has each file once, with its hash."""
        [record] = self.site.glob("pycontain-*.dist-info/RECORD")
        rows = list(csv.reader(record.read_text().splitlines()))
        names = [name for name, _, _ in rows]
        assert len(names) == len(set(names))
        for name, digest, size in rows:
            if digest:
                content = (self.site / name).read_bytes()
                made = urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
                assert (digest, int(size)) == (f"sha256={made}", len(content)), name


PIP = {
    "PATH": os.environ["PATH"],
    "HOME": str(Path.home()),
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
    "PIP_BREAK_SYSTEM_PACKAGES": "1",
}


def environment(path: Path, interpreter: str) -> Environment:
    """A new virtual environment with nothing in it."""
    call(interpreter, "-m", "venv", path)
    [site] = path.glob("lib/python3*/site-packages")
    return Environment(path, site)


@pytest.fixture(scope="session")
def prepared(wheel: Path) -> Iterator[Environment]:
    """An environment of this Python for several tests, which everybody can enter."""
    with TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        made = environment(path, os.path.realpath(sys.executable))
        made.pip("install", "-qq", wheel)
        yield made


@pytest.fixture
def installed(prepared: Environment, wheel: Path) -> Environment:
    """The same, in which the command has never been used."""
    prepared.pip("install", "-qq", "--no-deps", "--force-reinstall", wheel)
    assert prepared.archives == []
    return prepared
