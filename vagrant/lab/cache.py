"""The lab's cache outside the source tree, and the lock on it."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import LabError
from .progress import say, seconds

LOCK_LIMIT = 3600.0
"""Seconds to wait for another run on this host: a second machine would only slow down both."""

GIB = 1 << 30


def folder() -> Path:
    """The lab's cache folder; PYCONTAIN_CACHE or XDG_CACHE_HOME move it. Created if missing."""
    chosen = os.environ.get("PYCONTAIN_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    path = (Path(chosen) if chosen else Path(base) / "pycontain") / "lab"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"{path}: the cache can't be created ({error.strerror})") from error
    return path


@contextmanager
def lock(limit: float = LOCK_LIMIT) -> Iterator[None]:
    """
    Locks the lab: one build or one machine at a time.

    The lock is on the cache folder's descriptor, so it ends with the process and leaves no file.
    """
    handle = os.open(folder(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        _wait(handle, limit)
        yield
    finally:
        os.close(handle)


def _wait(handle: int, limit: float) -> None:
    end = time.monotonic() + limit
    announced = False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise LabError(f"another run held the lab for more than {seconds(limit)}") from None
        if not announced:
            say(f"another run is using the lab: waiting (limit {seconds(limit)})")
            announced = True
        time.sleep(0.5)


def need_space(path: Path, gibibytes: float, what: str) -> None:
    """Raises LabError when the file system of `path` has less free space than that."""
    free = shutil.disk_usage(path).free
    if free < gibibytes * GIB:
        raise LabError(
            f"{path}: {free / GIB:.1f} GiB free, but {what} needs {gibibytes:g} GiB: "
            "make room, or move the cache with PYCONTAIN_CACHE"
        )


def temporary() -> Path:
    """Where QEMU stores the machine's writes, in an unlinked file that ends with the process."""
    return Path(os.environ.get("TMPDIR", "/var/tmp"))
