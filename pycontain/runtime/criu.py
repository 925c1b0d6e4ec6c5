"""CRIU, the program that saves processes in files and restores them: criu(8)."""

from __future__ import annotations

from ..errors import HostError, KernelError, UsageError
from ..kernel.files import read_text
from ..kernel.safe_path import open_directory
from ..lean import jsontext, os
from ..lean.jsontext import fits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan.criu import CriuRequest

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # engines may pass none
_STREAMS = "descriptors.json"  # runc's name, and content


def find() -> str:
    """The path of criu. Raises HostError if it is not installed."""
    import shutil

    found = shutil.which("criu", path=os.fsdecode(os.environ.get(b"PATH", b"")) or _PATH)
    if found is None:
        raise HostError("is not installed", at="criu", remedy="install the package criu")
    return found


def directories(request: CriuRequest, *, create: bool = False) -> tuple[str, str]:
    """
    The absolute paths of images and log.

    What criu reads and writes there as root is as safe as the path: raises HostError for one that
    other users can change, UsageError for one that is no directory.
    """
    images = _directory(request.image_path, "--image-path", create)
    if not request.work_path:
        return images, images
    return images, _directory(request.work_path, "--work-path", create)


def _directory(path: str, flag: str, create: bool) -> str:
    found = os.path.abspath(path)
    try:
        open_directory(found, create=create).close()
    except KernelError as error:
        raise UsageError(error.fault.why, at=flag, value=path) from None
    return found


def write_streams(images: str, names: list[str]) -> None:
    """Keep what criu calls the standard streams."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(os.path.join(images, _STREAMS), flags, 0o600), "w", encoding="utf-8") as file:
        file.write(jsontext.dumps(names))


def read_streams(images: str) -> list[str]:
    """What criu calls the standard streams. Raises UsageError for a directory without images."""
    path = os.path.join(images, _STREAMS)
    try:
        names = jsontext.loads(read_text(path))
    except KernelError as error:
        why = error.fault.why
        raise UsageError(f"has no images of a container: {_STREAMS} {why}", at=images) from None
    except ValueError as error:
        raise UsageError(f"is not JSON: {error}", at=path) from None
    if not isinstance(names, list) or not fits(names, [str]):
        raise UsageError("is not a list of names", at=path)
    return names
