"""
The socket through which a program notifies systemd, as the container sees it. sd_notify(3).

As with runc, a directory of ours is mounted, in which the runtime listens: the container does not
reach the socket of systemd, and only says that it is ready.
"""

from __future__ import annotations

from ..spec.records import Mount, Process, Spec
from .steps.sdnotify import MakeNotifyDirectory

SOCKET = "notify.sock"
_INSIDE = "/run/notify"
_OPTIONS = ("bind", "nosuid", "noexec", "nodev", "ro")
_WHY = "NOTIFY_SOCKET of the caller"


def with_socket(spec: Spec, directory: str) -> Spec:
    """The configuration with this directory of the host, and the variable that tells of it."""
    process = spec.process or Process(at="process", cwd="/")
    variable = f"NOTIFY_SOCKET={_INSIDE}/{SOCKET}"
    mount = Mount(at=_WHY, destination=_INSIDE, source=directory, type="bind", options=_OPTIONS)
    return spec.replace(
        mounts=(*spec.mounts, mount), process=process.replace(env=(*process.env, variable))
    )


def directory_step(*, listens: bool) -> MakeNotifyDirectory:
    """The step that creates the directory; listens: not only `start` does."""
    return MakeNotifyDirectory(listens=listens, why=_WHY)
