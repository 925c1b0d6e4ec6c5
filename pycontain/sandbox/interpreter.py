"""The interpreter of an image or a directory: where it is, and whether it is still the same."""

from __future__ import annotations

import os

from ..errors import HostError, reason
from ..kernel import seal
from ..kernel.root import Root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "python3"
_USUAL = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def identity(rootfs: str, env: Mapping[str, str]) -> str:
    """
    What changes when the directory, or the interpreter in it, is moved, replaced or upgraded.

    env  has the PATH in which programs of the root file system are looked for

    Raises HostError if there is no such directory, or no interpreter in it.
    """
    try:
        root = os.open(rootfs, _DIRECTORY)
    except OSError as error:
        raise HostError(reason(error.errno or 0), at="rootfs", value=rootfs) from None
    try:
        found = _found(Root(root), env.get("PATH", _USUAL))
        if found < 0:
            remedy = "install Python 3.8 or later in it"
            raise HostError(f"has no {NAME}", at="rootfs", value=rootfs, remedy=remedy)
        try:
            return seal.entry(rootfs, os.fstat(root)) + seal.entry(NAME, os.fstat(found))
        finally:
            os.close(found)
    finally:
        os.close(root)


def _found(root: Root, path: str) -> int:
    """A descriptor of the interpreter in these directories, -1 if none has it."""
    for directory in path.split(":"):
        found = root.find(os.path.join("/", directory, NAME))
        if found is not None:
            return found
    return -1
