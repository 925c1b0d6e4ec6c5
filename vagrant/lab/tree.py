"""The source tree as a tar in memory, handed to the machine as a disk."""

import os
import tarfile
from pathlib import Path

from .errors import LabError

LIMIT = 256 << 20
"""Bytes; a source tree is a few million, more means that something else was caught."""

LEFT_OUT = frozenset({"__pycache__", "build", "dist", "node_modules"})
"""Folders that never go in, beside those whose name begins with a dot (but .ci)."""

NAME = "pycontain-lab-tree"


def packed(root: Path) -> int:
    """
    A descriptor of an anonymous file that holds the tree, for QEMU to read as a raw disk.

    Files belong to root inside; modes and links are kept. Raises LabError when it is too large.
    """
    with (
        os.fdopen(os.memfd_create(NAME), "wb") as file,
        tarfile.open(fileobj=file, mode="w") as tar,
    ):
        for path in files(root):
            tar.add(path, arcname=str(path.relative_to(root)), recursive=False, filter=_ours)
            if file.tell() > LIMIT:
                raise LabError(f"{root}: more than {LIMIT >> 20} MiB of source, last {path}")
        tar.close()
        file.flush()
        # QEMU takes a descriptor for a read-only disk only when it is open for reading alone
        return os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)


def files(root: Path) -> list[Path]:
    """Every file and link that is source, in order of name."""
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if _goes(name))
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        regular = [name for name in names if not name.endswith((".pyc", ".sock"))]
        for name in sorted(regular + links):
            path = Path(folder) / name
            if path.is_symlink() or path.is_file():
                found.append(path)
    return found


def _goes(name: str) -> bool:
    if name in LEFT_OUT or name.endswith(".egg-info"):
        return False
    return not name.startswith(".") or name == ".ci"


def _ours(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return info
