"""The parent opens the namespaces that the child will enter."""

from __future__ import annotations

from ..errors import KernelError, StateError
from ..kernel import calls
from ..lean import os
from ..plan.namespaces import FILES
from ..plan.steps import joining
from ..plan.walk import parent_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .launch import Launch


@parent_step(joining.OpenNamespaces)
def open_namespaces(step: joining.OpenNamespaces, launch: Launch) -> None:
    """Open the namespaces to join; check their types, and that none to modify is the host's."""
    for kind, path in step.paths.items():
        try:
            launch.namespaces[kind] = _open_namespace(kind, path)
        except KernelError as error:
            error.fault.at, error.fault.value = step.why, path
            raise
        if kind in step.foreign:
            _refuse_own(kind, path, step.foreign[kind])


def _open_namespace(kind: int, path: str) -> int:
    """A descriptor of a namespace of this kind. Raises KernelError or StateError otherwise."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO would block
    except OSError as error:
        raise KernelError.of("open", error.errno or 0, path) from None
    try:
        type_ = calls.namespace_type(fd)
    except KernelError:
        type_ = 0
    if type_ != kind:
        os.close(fd)
        raise StateError(
            f"is not a namespace of type {FILES[kind]}",
            at=path,
            remedy="name a file of /proc/PID/ns of that type, or a bind mount of one",
        )
    return fd


def _refuse_own(kind: int, path: str, changed: str) -> None:
    """Raises StateError for this process's own namespace: the change would apply to the host."""
    if os.path.samefile(path, f"/proc/self/ns/{FILES[kind]}"):
        raise StateError(
            f"is the host's own {FILES[kind]} namespace, which {changed} would change",
            at=path,
            remedy="use a new namespace, or remove that setting",
        )
