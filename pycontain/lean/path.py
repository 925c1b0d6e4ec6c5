"""The part of `os.path` that the engines' path uses (see `pycontain.lean.os`), for text alone."""

from __future__ import annotations

from _stat import S_ISDIR
from posix import getcwd, lstat, stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import stat_result


def join(directory: str, *names: str) -> str:
    """Join paths; an absolute one discards those before it."""
    path = directory
    for name in names:
        if name.startswith("/") or not path:
            path = name
        else:
            path += name if path.endswith("/") else f"/{name}"
    return path


def split(path: str) -> tuple[str, str]:
    """The parts before and after the last slash."""
    head, slash, name = path.rpartition("/")
    return head.rstrip("/") or head + slash, name


def dirname(path: str) -> str:
    """The part before the last slash."""
    return split(path)[0]


def normpath(path: str) -> str:
    """The path without "//", "." and "..", as text: links are not resolved."""
    root = "/" if path.startswith("/") else ""
    if path.startswith("//") and not path.startswith("///"):
        root = "//"  # its meaning is implementation-defined in POSIX
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", ".") and not (root and part == ".."):
            parts.append(part)
    return root + "/".join(parts) or "."


def abspath(path: str) -> str:
    """The absolute path, normalized."""
    return normpath(path if path.startswith("/") else join(getcwd(), path))


def exists(path: str) -> bool:
    """Whether the file exists; False for a broken link."""
    return _found(path) is not None


def lexists(path: str) -> bool:
    """Whether a file or a link exists, broken or not."""
    try:
        lstat(path)
    except (OSError, ValueError):
        return False
    return True


def isdir(path: str) -> bool:
    """Whether this is a directory."""
    status = _found(path)
    return status is not None and S_ISDIR(status.st_mode)


def _found(path: str) -> stat_result | None:
    try:
        return stat(path)
    except (OSError, ValueError):  # ValueError: the path contains a NUL
        return None


def samefile(one: str, other: str) -> bool:
    """Whether both paths lead to the same file. Raises OSError."""
    return samestat(stat(one), stat(other))


def samestat(one: stat_result, other: stat_result) -> bool:
    """Whether both are of the same file."""
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
