"""The built images: finding the current recipe's, building it if missing, removing old ones."""

import os
import subprocess
from pathlib import Path

from . import build, cache, recipe
from .errors import LabError
from .progress import Step, say
from .shell import as_root, need

SPACE = 4.0
"""GiB that a build needs while it runs; a finished image takes about one."""

KEPT = 2
"""Images that are kept, so that going back to the last recipe costs nothing."""


class Image:
    """The files of one image."""

    __slots__ = ("folder",)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def disk(self) -> Path:
        """The root disk, raw ext4. Never written to: machines write to a throw-away layer."""
        return self.folder / "root.img"

    @property
    def kernel(self) -> Path:
        """The kernel, as bzImage, from the image's own tree."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """The initial RAM disk."""
        return self.folder / "initrd.gz"

    @property
    def key(self) -> Path:
        """The private key that root and vagrant accept; generated for this image alone."""
        return self.folder / "key"

    @property
    def hosts(self) -> Path:
        """The known_hosts file with the machine's host key under the name `lab`."""
        return self.folder / "known_hosts"

    @property
    def box(self) -> Path:
        """The image as a Vagrant box; exists once it was built."""
        return self.folder / "pycontain.box"


def find() -> Image | None:
    """The image of the current recipe, if it was built."""
    image = Image(cache.folder() / recipe.key())
    return image if image.disk.exists() else None


def ensure() -> Image:
    """
    The image of the current recipe, built if missing. The caller must hold the lock.

    Raises LabError when it can't be built; no partial image is left behind.
    """
    for leftover in cache.folder().glob("new-*"):
        _remove(leftover)
    found = find()
    if found:
        os.utime(found.folder)
        return found
    need("mmdebstrap", "mkfs.ext4", "ssh-keygen", "setpriv", "unshare")
    cache.need_space(cache.folder(), SPACE, "building the image")
    new = cache.folder() / f"new-{os.getpid()}"
    try:
        image = Image(cache.folder() / recipe.key())
        with Step("building the image", build.LIMIT) as step:
            build.build(new, step)
        new.rename(image.folder)
    finally:
        _remove(new)
    _prune(image)
    return image


def _remove(path: Path) -> None:
    """Removes a build folder; the tree in it is owned by root."""
    if path.exists():
        subprocess.run(as_root(["rm", "-rf", "--one-file-system", str(path)]), check=False)
    if path.exists():
        raise LabError(f"{path}: the remains of a build can't be removed")


def _prune(current: Image) -> None:
    folders = [path for path in cache.folder().iterdir() if (path / "root.img").exists()]
    folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in folders[KEPT:]:
        if path != current.folder:
            say(f"removing the image of an older recipe, {path.name}")
            _remove(path)
