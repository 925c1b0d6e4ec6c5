"""`make install` and `make uninstall`: what is there afterwards, and that nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pycontain.cli import completion, manual, table
from tests.packaging.conftest import LIMIT, PIP, ROOT, call, privately

pytestmark = pytest.mark.needs_root

DROP_IN = "etc/containers/containers.conf.d/pycontain.conf"
VERSION = f"pycontain version {table.VERSION}"
SHARED = {
    *(f"share/man/man1/{name}" for name in manual.pages("")),
    "share/bash-completion/completions/pycontain",
    "share/zsh/site-functions/_pycontain",
    "share/fish/vendor_completions.d/pycontain.fish",
}


def make(*words):
    command = [sys.executable, "-B", "-m", "release.install", *map(str, words)]
    subprocess.run(command, cwd=ROOT, env=PIP, check=True, timeout=LIMIT)


def listed(folder):
    """All that is in a directory, with sizes and times of files."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        if path.is_file()
        else ()
        for path in folder.rglob("*")
    }


@pytest.fixture
def place():
    """A directory that everybody can enter."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def source():
    """What is in the source tree, which must not change."""
    return of_source()


def of_source():
    """All files of the source tree, without those of tools, whose names begin with a dot."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
    return {
        path
        for path in found
        if not any(name.startswith(".") or name == "__pycache__" for name in path.parts)
    }


def test_a_staged_installation_works_after_it_is_moved_to_its_prefix(place, source):
    """In a mount namespace in which the staged directories are in their place."""
    (place / "usr/local/share/man").mkdir(parents=True)
    (place / "usr/local/share/man/empty").touch()
    before = listed(place)
    make("install", "--prefix", "/usr/local", "--destdir", place)
    prefix = place / "usr/local"
    found = {name.removeprefix("usr/local/") for name in listed(place)}
    assert found >= {*SHARED, "bin/pycontain", DROP_IN}
    assert [path for path in prefix.glob("lib/pycontain/bin/*") if names(place, path)] == []
    with (place / DROP_IN).open("rb") as file:
        engine = tomllib.load(file)["engine"]
    assert engine["runtimes"]["pycontain"] == ["/usr/local/bin/pycontain"]
    assert "pycontain" in engine["runtime_supports_json"]
    printed = privately(
        'cd /; mount --bind "$1/usr/local" /usr/local; pycontain --version;'
        "pycontain setup; pycontain --version; head -n 1 /usr/local/lib/pycontain/bin/pycontain",
        place,
    )
    assert printed.count(VERSION) == 2
    assert "wrote /usr/local/lib/pycontain/bin/pycontain\n" in printed
    assert printed.endswith(" -BISXutf8\n")
    make("uninstall", "--prefix", "/usr/local", "--destdir", place)
    assert listed(place) == before
    assert source == of_source()


def names(place, path):
    return path.is_file() and not path.is_symlink() and str(place) in path.read_text()


def test_an_installation_is_fast_at_once_and_replaced_by_the_next(place):
    """With a umask that keeps others out, as root may have; the drop-in is in a private /etc."""
    script = (
        'mount -t tmpfs none /etc/containers; cd "$1"; shift; umask 077; "$@"; "$@";'
        "find /etc/containers -type f"
    )
    (Path("/etc/containers")).mkdir(exist_ok=True)
    command = (sys.executable, "-B", "-m", "release.install", "install", "--prefix", place / "p")
    printed = call(
        "unshare", "--mount", "sh", "-euc", script, "sh", ROOT, *command,
        env=PIP,
    )  # fmt: skip
    assert printed == f"/{DROP_IN}\n"
    program = place / "p/bin/pycontain"
    assert program.resolve().read_text().splitlines()[0].endswith(" -BISXutf8")
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    assert call(program, "--version", **nobody).startswith(VERSION)
    script = completion.SHELLS["bash"]()
    assert (place / "p/share/bash-completion/completions/pycontain").read_text() == script
    assert "pycontain-run" in call("man", "-w", "-M", place / "p/share/man", "pycontain-run")
    make("uninstall", "--prefix", place / "p")
    assert os.listdir(place) == []


def test_a_failed_installation_leaves_nothing(place):
    command = (sys.executable, "-B", "-m", "release.install", "install", "--prefix", place / "p")
    offline = {**PIP, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null"}
    done = subprocess.run(command, cwd=ROOT, env=offline, capture_output=True, check=False)
    assert done.returncode != 0
    assert os.listdir(place) == []


def test_a_directory_that_is_no_installation_is_not_replaced_or_removed(place):
    (place / "lib/pycontain").mkdir(parents=True)
    (place / "lib/pycontain/precious").touch()
    for action in ("install", "uninstall"):
        command = (sys.executable, "-B", "-m", "release.install", action, "--prefix", place)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert "is not an installation of pycontain" in done.stderr
    assert (place / "lib/pycontain/precious").exists()
