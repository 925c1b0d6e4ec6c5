"""`pycontain run`: a separate module, because engines use it (CONTRIBUTING, habit 7)."""

from __future__ import annotations

import errno

from ..errors import SpecError, UsageError
from ..plan.request import Request
from ..runtime.run import run as run_container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..options import Options
    from ..plan.walk import Times

_REMEDY = (
    "a bundle has its own; name an image with its transport, such as docker://busybox, or a root"
    " file system with --rootfs"
)


def run(options: Options, *, id: str, **values: Any) -> int | str:
    """
    Run a container; returns its program's exit status. With timing, show each step's time.

    An id is a bundle's container. A root file system, or an image, which has a colon in its name as
    no id has, is a matter of `made`, which imports more.
    """
    if values["rootfs"] or ":" in id:
        from .image import run_made

        return run_made(options, id, values, _show)
    request = {key: value for key, value in values.items() if key in Request.FIELDS}
    for key, value in values.items():
        if key not in request and value:
            flag = f"--{key.replace('_', '-')}"
            at = f"the command of {id}" if key == "args" else flag
            raise UsageError("is for images and root file systems", at=at, remedy=_REMEDY)
    made = Request(id=id, **request)
    try:
        return run_container(options, made, _show if made.timing else None)
    except SpecError as error:
        if made.bundle == "." and not made.config and error.fault.errno == errno.ENOENT:
            error.fault.remedy = f"give --bundle, or for an image its transport: docker://{id}"
        raise


def _show(times: Times) -> None:
    from .render import timings as show

    show(times)
