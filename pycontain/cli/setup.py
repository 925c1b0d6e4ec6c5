"""
Let the command start fast where an installer of Python packages, such as pip, has put it.

The archive is packed, and the installer's program is replaced by the launcher, if both are ours to
change. They are entered in the installer's list of files (RECORD, PEP 376), with their hashes: it
then removes them with the rest, and an upgrade leaves nothing that is outdated.
"""

from __future__ import annotations

import csv
import hashlib
import os
from base64 import urlsafe_b64encode
from importlib import metadata
from pathlib import Path

from ..errors import PycontainError
from . import launcher, pack
from .replacing import replacing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..options import Options

    Row = list[str]


def setup(_: Options) -> Iterator[str]:
    """
    Make the command fast; yields a line on each file.

    Raises HostError that names what is not ours, KernelError and OSError.
    """
    with pack.place() as directory:
        yield from _made(directory)


def at_first_use() -> None:
    """
    Make the command fast if that is possible and no other process is doing it.

    The command at hand works in any case, and `pycontain setup` reports what is in the way.
    """
    try:
        with pack.place(wait=False) as directory:
            list(_made(directory))
    except (PycontainError, OSError):
        pass


def _made(directory: str) -> Iterator[str]:
    archive = pack.pack(directory)
    yield f"wrote {archive}"
    listing = record()
    if listing is None:
        return
    made = [archive]
    for program in _programs(listing):
        if _is_ours(program):
            launcher.put(str(program))
            made += [str(program), launcher.interpreter()]
            yield f"wrote {program}"
        else:
            yield f"left {program} as it is: it belongs to another user or cannot be written"
    if _is_ours(listing):
        enter(listing, made)


def record() -> Path | None:
    """The list of our files; None if no installer has put them where they are."""
    try:
        distribution = metadata.distribution("pycontain")
    except metadata.PackageNotFoundError:
        return None
    here = Path(str(distribution.locate_file("pycontain/cli/setup.py")))
    lists = [file for file in distribution.files or () if file.name == "RECORD"]
    if not lists or not here.exists() or not here.samefile(__file__):
        return None
    return Path(str(lists[0].locate()))


def _programs(listing: Path) -> Iterator[Path]:
    """The programs of the list that are still what the list says."""
    for name, digest, _ in _rows(listing):
        path = _located(listing, name)
        if name.endswith("/bin/pycontain") and path.is_file() and _hash(path) == digest:
            yield path


def _rows(listing: Path) -> list[Row]:
    with listing.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def _located(listing: Path, name: str) -> Path:
    return Path(os.path.normpath(listing.parent.parent / name))


def _hash(path: Path) -> str:
    digest = urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest())
    return f"sha256={digest.decode().rstrip('=')}"


def _is_ours(path: Path) -> bool:
    """Whether a file is ours to replace, also for root, who may write what belongs to others."""
    owners = {path.stat().st_uid, path.parent.stat().st_uid}
    return owners == {os.geteuid()} and os.access(path.parent, os.W_OK)


def enter(listing: Path, made: list[str]) -> None:
    """Enter files in the list. Raises OSError."""
    site = listing.parent.parent
    known = {str(_located(listing, name)): name for name, *_ in _rows(listing)}
    rows = [row for row in _rows(listing) if str(_located(listing, row[0])) not in made]
    for path in map(Path, made):
        if path.is_relative_to(site):
            known.setdefault(str(path), str(path.relative_to(site)))
        if str(path) in known:
            rows.append([known[str(path)], _hash(path), str(path.stat().st_size)])
    with (
        replacing(str(listing), listing.stat().st_mode & 0o777) as half,
        open(half, "w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file, lineterminator="\n").writerows(rows)
