"""Files that are replaced at once; halves that a killed process has left do not stay."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_SUFFIX = ".new"


@contextmanager
def replacing(path: str, mode: int) -> Iterator[str]:
    """
    The path of a new file, which replaces another one at the end; with an error it is removed.

    What earlier attempts have left is removed first: their processes were killed, since only one at
    a time writes (`pack.place`). Raises OSError.
    """
    directory, name = os.path.split(path)
    prefix = f".{name}."
    for other in os.listdir(directory or "."):
        if other.startswith(prefix) and other.endswith(_SUFFIX):
            with suppress(OSError):  # in a directory like /tmp it may be anyone's
                os.unlink(os.path.join(directory, other))
    # always a new file: in such a directory others could have created a link
    number, half = tempfile.mkstemp(prefix=prefix, suffix=_SUFFIX, dir=directory or ".")
    try:
        os.fchmod(number, mode)  # whatever the umask
        os.close(number)
        yield half
        os.replace(half, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(half)
        raise
