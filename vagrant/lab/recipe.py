"""What the image consists of, and the key under which it is cached."""

import hashlib
import re
import tomllib
from pathlib import Path

SUITE = "bookworm"
"""The Debian release of the machine."""

PYTHON = "3.11"
"""That release's Python, for which packages are downloaded."""

HERE = Path(__file__).resolve().parent.parent
PROJECT = HERE.parent

FILES = ("image.sh", "provision.sh", "packages.txt", "init")
CODE = ("build.py", "initrd.py", "recipe.py")


def lines(path: Path) -> list[str]:
    """The lines of a list file without comments and blanks."""
    text = path.read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]


def packages() -> list[str]:
    """The Debian packages of the machine."""
    return lines(HERE / "packages.txt")


def requirements() -> list[str]:
    """
    The Python packages of the machine: the project's dependencies and what its tests need.

    For a package in both files, pyproject.toml overrides requirements.txt, so that the project's
    version bounds apply.
    """
    found = {_name(line): line for line in lines(HERE / "requirements.txt")}
    project = PROJECT / "pyproject.toml"
    if project.exists():
        table = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
        extras = table.get("optional-dependencies", {}).values()
        for line in (line for group in extras for line in group):
            if _name(line) in found:
                found[_name(line)] = line
        for line in table.get("dependencies", []):
            found[_name(line)] = line
    return sorted(found.values())


def _name(requirement: str) -> str:
    name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def key() -> str:
    """The recipe's hash: 16 hexadecimal digits that change when the image would."""
    digest = hashlib.sha256()
    for path in [HERE / name for name in FILES] + [HERE / "lab" / name for name in CODE]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update("\n".join(requirements()).encode())
    return digest.hexdigest()[:16]
