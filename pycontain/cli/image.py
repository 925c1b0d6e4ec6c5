"""Commands for images and root file systems: `run` without a bundle, `spec --rootfs`, `images`."""

from __future__ import annotations

from ..errors import ProgramError, PycontainError, UsageError
from ..image import container_dir
from ..image.flags import Choices
from ..image.reference import Access
from ..image.run import rootfs_configuration, run
from ..image.store import Store
from ..lean import jsontext
from ..plan.request import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from ..image.store import Image
    from ..options import Options
    from ..plan.walk import Times

_FAILED = 125  # what docker run ends with when it fails itself, not its program
_OF_BUNDLES = ("bundle", "config", "console_socket", "pidfd_socket")


def run_made(
    options: Options, first: str, values: dict[str, Any], show: Callable[[Times], None]
) -> int | str:
    """Run an image, the first argument, or a root file system; errors have status 125."""
    request = {key: value for key, value in values.items() if key in Request.FIELDS}
    name = "" if values["rootfs"] else first
    try:
        for key in _OF_BUNDLES:
            if request.pop(key) != Request.DEFAULTS[key]:
                raise UsageError("is for bundles", at=f"--{key.replace('_', '-')}")
        complete = Request(id="", **request)
        return run(
            options, name, complete, _choices(values, first), show if complete.timing else None
        )
    except PycontainError as error:
        if not isinstance(error, ProgramError) and error.fault.status == 1:
            error.fault.status = _FAILED
        raise


def rootfs_spec(values: dict[str, Any]) -> dict[str, object]:
    """The configuration that `run --rootfs` would use with the same flags."""
    choices = _choices(values, "")
    return rootfs_configuration(choices, choices.name or "pycontain")


def _choices(values: dict[str, Any], first: str) -> Choices:
    """The choices of flags; with a root file system the first argument is part of the command."""
    chosen = {key: value for key, value in values.items() if key in Choices.FIELDS}
    command = (first, *values["args"]) if values["rootfs"] and first else values["args"]
    readonly = bool(values["read_only"] or values["ro"])
    return Choices(**{**chosen, "command": command, "read_only": readonly})


def images(_: Options, *, format: str) -> Iterator[str] | str | None:
    """The images in the cache."""
    images_ = [_shown(image) for image in Store().images()]
    if format == "json":
        return jsontext.pretty(images_)
    from . import render

    render.images(images_)
    return None


def _shown(image: Image) -> dict[str, object]:
    return {
        "digest": image.digest,
        "names": list(image.names),
        "size": image.size,
        "created": image.config.created,
        "containers": container_dir.users(image.digest),
    }


def image(
    _: Options, *, action: str, names: tuple[str, ...], all: bool, tls_verify: str, authfile: str
) -> Iterator[str]:
    """Fetch, remove or prune images, and print each."""
    access = Access(tls_verify=tls_verify, authfile=authfile)
    if action not in ("pull", "rm", "prune"):
        raise UsageError("is not one of pull, rm, prune", at="image", value=action)
    if action != "pull":
        access.check("")
    if action == "prune":
        if names:
            raise UsageError("is one argument too many", value=names[0])
        return _prune(all)
    if not names:
        raise UsageError(f"image {action} needs the name of an image")
    return _pull(names, access) if action == "pull" else _remove(names)


def _pull(names: tuple[str, ...], access: Access) -> Iterator[str]:
    for name in names:
        yield Store().get(name, access, anew=True).digest


def _remove(names: tuple[str, ...]) -> Iterator[str]:
    store = Store()
    for name in names:
        image = store.find(name)
        store.remove(image, container_dir.users(image.digest))
        yield image.digest


def _prune(all: bool) -> Iterator[str]:
    """Remove what no name and no container refers to; with all, every image that is not in use."""
    store = Store()
    left = container_dir.remove_left() + store.remove_unfinished()
    for image in store.images():
        if (all or not image.names) and not container_dir.users(image.digest):
            store.remove(image, [])
            yield image.digest
    if left:
        yield f"removed what {left} interrupted command{'s'[: left > 1]} had left"
