"""The source tree as a tar in memory, passed to the machine as a disk."""

import os
import tarfile
from pathlib import Path

from .errors import LabError

LIMIT = 256 << 20
"""Bytes; a source tree has a few million, more means that something else was included."""

LEFT_OUT = frozenset({"__pycache__", "build", "dist", "node_modules"})
"""Folders that are left out, as are those whose name begins with a dot (except .ci)."""

NAME = "pycontain-lab-tree"


def packed(root: Path) -> int:
    """
    A descriptor of an anonymous file that contains the tree, for QEMU to read as a raw disk.

    Files belong to root inside; modes and links are kept. Raises LabError when it is too large.
    """
    with (
        os.fdopen(os.memfd_create(NAME), "wb") as file,
        tarfile.open(fileobj=file, mode="w") as tar,
    ):
        for path in files(root):
            tar.add(path, arcname=str(path.relative_to(root)), recursive=False, filter=_as_root)
            if file.tell() > LIMIT:
                raise LabError(f"{root}: more than {LIMIT >> 20} MiB of source files, at {path}")
        tar.close()
        file.flush()
        # QEMU accepts a descriptor for a read-only disk only if it was opened read-only
        return os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)


def files(root: Path) -> list[Path]:
    """Every file and link that is source, in order of name."""
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if _is_source(name))
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        regular = [name for name in names if not name.endswith((".pyc", ".sock"))]
        for name in sorted(regular + links):
            path = Path(folder) / name
            if path.is_symlink() or path.is_file():
                found.append(path)
    return found


def _is_source(name: str) -> bool:
    if name in LEFT_OUT or name.endswith(".egg-info"):
        return False
    return not name.startswith(".") or name == ".ci"


def _as_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return info
