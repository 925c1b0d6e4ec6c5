"""start: run the program of a created container. runtime.md, Start."""

from __future__ import annotations

from ..errors import PycontainError, StateError
from ..kernel.files import never_executed
from ..lean import os
from ..spec.annotations import ISOLATION
from ..wire import sync
from .handle import Handle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..kernel.sdnotify import Proxy
    from ..options import Options


def start(options: Options, id: str) -> None:
    """
    Let the program run, then run the poststart hooks.

    Raises StateError for a container that is not created or has no process, and the child's error
    if its last steps fail; in that case the container is deleted.
    """
    container = Handle(options, id, lock=True)
    with container.directory:
        container.require("created")
        if not container.state.process:
            raise StateError("has no process to start", at="container", value=id)
        hooks = _poststart_hooks(container)
        proxy, pidfd = _proxy(container)
        channel = sync.Channel(*container.directory.open_fifos())
        container.directory.remove_fifos()
        try:
            sync.pass_turn(channel)
            options.detail(f"start: process {container.state.pid} may continue")
            _await_program(channel, container)
            options.detail("start: its program runs")
        except PycontainError:
            from .delete import destroy

            destroy(options, container)
            raise
        finally:
            channel.close()
    try:
        hooks()  # unlocked: a hook may use the container
    except PycontainError:
        from .delete import delete

        delete(options, id, force=True)
        raise
    if proxy is not None:
        proxy.forward(pidfd, container.state.pid)


def _poststart_hooks(container: Handle) -> Callable[[], None]:
    """A function that runs the hooks; without any, the configuration need not be parsed."""
    if not container.state.poststart:
        return lambda: None
    from ..spec.parse import parse
    from . import poststart

    spec = parse(container.directory.load_config())
    return lambda: poststart.run(spec, container.state)


def _proxy(container: Handle) -> tuple[Proxy | None, int]:
    """
    A proxy for the program's notifications, and a pidfd, if the caller has a notification socket.

    It listens before the program runs. A container that was created without a socket has none.
    """
    if b"NOTIFY_SOCKET" not in os.environ:
        return None, -1
    from ..state.directory import NOTIFY

    folder = container.directory.file(NOTIFY)
    if not os.path.exists(folder):
        return None, -1
    from ..kernel.sdnotify import Proxy
    from ..plan.sdnotify import SOCKET

    return Proxy(folder, SOCKET), container.pidfd()


def _await_program(channel: sync.Channel, container: Handle) -> None:
    word = ""
    while word != "end":
        before, (word, _) = word, sync.await_child(channel)
    kind = container.state.annotations.get(ISOLATION, "namespaces")
    never = kind == "namespaces" and never_executed(container.state.pid)  # a monitor never does
    if before != "exec" or never:
        raise StateError("died before its program ran", at="container", value=container.state.id)
