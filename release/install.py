"""
Install pycontain below a prefix, and remove exactly what was installed: `make install`.

    PREFIX/lib/pycontain     a virtual environment with the package, and the list of all the rest
    PREFIX/bin/pycontain     a link to the command in it
    PREFIX/share             man pages, and completions for bash, zsh and fish
    /etc/containers/containers.conf.d/pycontain.conf     so that Podman knows the runtime

With DESTDIR all of it goes below that directory, for a package that is unpacked elsewhere, where
`pycontain setup` then makes the command fast. The source tree is not written to: it may belong to
somebody else than root.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pycontain.cli import completion, manual

ROOT = Path(__file__).parents[1]
SOURCE = ("LICENSE", "README.md", "pyproject.toml", "pycontain")  # what a build needs

_COMPLETIONS = {
    "bash": "bash-completion/completions/pycontain",
    "zsh": "zsh/site-functions/_pycontain",
    "fish": "fish/vendor_completions.d/pycontain.fish",
}
_DROP_IN = Path("/etc/containers/containers.conf.d/pycontain.conf")
_PODMAN = """\
# Podman: `podman --runtime pycontain run ...`. To make it the default, add to [engine]:
# runtime = "pycontain"
[engine]
runtime_supports_json = ["crun", "runc", "kata", "runsc", "youki", "krun", "pycontain"]

[engine.runtimes]
pycontain = ["{program}"]
"""


class Installation:
    """
    What is installed below a prefix.

    home  the virtual environment, below DESTDIR
    """

    def __init__(self, prefix: Path, destdir: str) -> None:
        self._prefix = prefix
        self._destdir = destdir
        self.home = self._below(prefix / "lib/pycontain")
        self._list = self.home / "installed"
        self._made: list[Path] = []

    def _below(self, path: Path) -> Path:
        """Where a path is while it is installed."""
        return Path(f"{self._destdir}{path}")

    def install(self) -> None:
        """Install anew, or leave nothing. Raises OSError and CalledProcessError."""
        self.uninstall()
        try:
            self._create_folders(self._prefix / "lib")
            call(sys.executable, "-m", "venv", self.home)
            with tempfile.TemporaryDirectory() as name:
                self._install_package(copied(Path(name)))
            self._link_program()
            for path, text in self._texts():
                self._put(path, text)
            self._list.write_text("".join(f"{path}\n" for path in self._made))
            self._finish()
        except BaseException:
            self._remove(self._made)
            raise

    def uninstall(self) -> None:
        """Remove what `install` has made, and directories that it made if they are empty."""
        if self.home.exists() and not (self.home / "pyvenv.cfg").exists():
            sys.exit(f"{self.home} is not an installation of pycontain")
        lines = self._list.read_text().splitlines() if self._list.exists() else []
        self._remove(list(map(Path, lines)))

    def _remove(self, made: list[Path]) -> None:
        if self.home.exists():
            shutil.rmtree(self.home)
        for path in map(self._below, reversed(made)):
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            else:
                path.unlink(missing_ok=True)

    def _install_package(self, source: Path) -> None:
        compiled = ["--no-compile"] if self._destdir else []  # it would name DESTDIR
        python = self.home / "bin/python"
        call(
            python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--root-user-action=ignore", *compiled, source,
        )  # fmt: skip

    def _link_program(self) -> None:
        path = self._prefix / "bin/pycontain"
        self._create_folders(path.parent)
        self._below(path).unlink(missing_ok=True)
        self._below(path).symlink_to("../lib/pycontain/bin/pycontain")
        self._made.append(path)

    def _texts(self) -> list[tuple[Path, str]]:
        """The files besides the package, as (path, text)."""
        share = self._prefix / "share"
        day = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
        pages = manual.pages(time.strftime("%Y-%m-%d", day))
        scripts = completion.SHELLS
        return [
            *((share / "man/man1" / name, text) for name, text in pages.items()),
            *((share / _COMPLETIONS[shell], script()) for shell, script in scripts.items()),
            (_DROP_IN, _PODMAN.format(program=self._prefix / "bin/pycontain")),
        ]

    def _put(self, path: Path, text: str) -> None:
        self._create_folders(path.parent)
        self._below(path).write_text(text, encoding="utf-8")
        self._made.append(path)

    def _create_folders(self, folder: Path) -> None:
        """Create a directory with its parents, and list those that were missing."""
        missing = [each for each in (folder, *folder.parents) if not self._below(each).is_dir()]
        for each in reversed(missing):
            self._below(each).mkdir(parents=True)  # those of DESTDIR itself are not listed
            self._made.append(each)

    def _finish(self) -> None:
        """Make the command fast, or let what is staged name the places where it will be."""
        if not self._destdir:
            call(self.home / "bin/pycontain", "setup")
            return
        changed = []
        for path in (*self.home.glob("bin/*"), self.home / "pyvenv.cfg"):
            if path.is_file() and not path.is_symlink():
                path.write_text(path.read_text().replace(self._destdir, ""))
                changed.append(str(path))
        python = self.home / "bin/python"
        listed = "from pycontain.cli import setup; setup.enter(setup.record(), {!r})"
        call(python, "-IBc", listed.format(changed))
        call(python, "-m", "compileall", "-q", "-s", self._destdir, self.home)


def copied(folder: Path) -> Path:
    """A copy of what a build needs: it leaves files beside the sources."""
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    for name in SOURCE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder)
    return folder


def call(*command: object) -> None:
    """Run a command that must succeed."""
    subprocess.run([str(word) for word in command], stdout=subprocess.DEVNULL, check=True)


def main() -> None:
    """Install or uninstall."""
    parser = argparse.ArgumentParser(prog="release.install")
    parser.add_argument("action", choices=("install", "uninstall"))
    parser.add_argument("--prefix", type=Path, default=Path("/usr/local"))
    parser.add_argument("--destdir", default="")
    words = parser.parse_args()
    os.umask(0o022)
    installation = Installation(words.prefix, words.destdir.rstrip("/"))
    if words.action == "install":
        installation.install()
    elif installation.home.exists():
        installation.uninstall()
    else:
        sys.exit(f"{installation.home} does not exist: nothing is installed there")


if __name__ == "__main__":
    main()
