"""create: create a container that waits for `start`. runtime.md, Create."""

from __future__ import annotations

import _signal

from ..kernel import const as c
from ..kernel.wait import Until
from ..launch.bring_up import bring_up
from ..launch.launch import Caller
from . import console
from .bundle import Bundle
from .prepare import activated, notified, prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..options import Options
    from ..plan.request import Request


def create(options: Options, request: Request) -> None:
    """
    Create a container from a bundle; its program runs when `start` is called.

    Raises PycontainError after undoing everything; Interrupted after SIGINT or SIGTERM.
    """
    # a signal half-way would look like a failure, but leave a container behind
    _signal.pthread_sigmask(_signal.SIG_BLOCK, c.ALL_SIGNALS)
    with Until.interrupted() as until:
        bundle = Bundle(request.bundle, request.config, until=until)
        console.check(bundle.spec.process, request.console_socket, detached=True)
        listen_fds = activated()
        complete = request.replace(
            separate_start=True,
            takes_files=True,
            preserve_fds=listen_fds + request.preserve_fds,
            listen_fds=listen_fds,
        )
        complete = notified(options, complete)
        bring_up(prepare(options, bundle, complete, Caller(until=until)))
