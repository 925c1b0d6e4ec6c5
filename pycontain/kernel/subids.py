"""Subordinate ids: those that a user may map into user namespaces. subuid(5), newuidmap(1)."""

from __future__ import annotations

from ..errors import HostError, KernelError
from ..lean import os
from .files import read_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .userns import Map

_TOOLS = {"uid_map": "newuidmap", "gid_map": "newgidmap"}
_REMEDY = "give the user such ids: usermod --add-subuids 100000-165535 --add-subgids 100000-165535"


def own_map(name: str) -> Map:
    """
    The map of a user namespace of this user's: root is the user, then come the subordinate ids.

    name  "uid_map" or "gid_map"
    """
    number = os.getuid() if name == "uid_map" else os.getgid()
    lines = [(0, number, 1)]
    for first, size in _ranges("/etc/subuid" if name == "uid_map" else "/etc/subgid"):
        lines.append((lines[-1][0] + lines[-1][2], first, size))
    return tuple(lines)


def _ranges(file: str) -> list[tuple[int, int]]:
    """(first, how many) of this user, who is named by name or number in both files."""
    names = {str(os.getuid()).encode(), *_names()}
    return [
        (int(line[1]), int(line[2]))
        for line in _lines(file)
        if len(line) == 3 and line[0] in names and line[1].isdigit() and line[2].isdigit()
    ]


def _names() -> list[bytes]:
    uid = str(os.getuid()).encode()
    return [line[0] for line in _lines("/etc/passwd") if len(line) > 2 and line[2] == uid]


def _lines(file: str) -> list[list[bytes]]:
    try:
        return [line.split(b":") for line in read_bytes(file).splitlines()]
    except KernelError:
        return []


def write_map(file: str, mapped: Map, at: str) -> None:
    """
    Write a map that the kernel lets this user write, or have it written by newuidmap(1).

    file  /proc/self/fd/N/uid_map or gid_map, where N is a process's directory
    at    the JSON path of the map

    Raises HostError that names the map, and what newuidmap says.
    """
    folder, _, name = file.rpartition("/")
    own = os.getuid() if name == "uid_map" else os.getgid()
    if len(mapped) == 1 and mapped[0][1:] == (own, 1):
        if name == "gid_map":  # CVE-2014-8989: who can drop a group gets what is denied to it
            _write(f"{folder}/setgroups", "deny", at)
        return _write(file, " ".join(map(str, mapped[0])), at)
    import subprocess

    words = [str(number) for line in mapped for number in line]
    tool = _TOOLS[name]
    try:
        done = subprocess.run(
            [tool, os.readlink(folder).rpartition("/")[2], *words], capture_output=True, check=False
        )
    except FileNotFoundError:
        raise HostError(
            "needs newuidmap and newgidmap", at=at, remedy="install uidmap, or map one id alone"
        ) from None
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip()
        raise HostError(f"is refused by {tool}: {why}", at=at, remedy=_REMEDY)


def _write(file: str, text: str, at: str) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        raise KernelError.of(f"write {file}", error.errno or 0, at) from None
    finally:
        os.close(fd)
