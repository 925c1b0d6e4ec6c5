"""What a command executes if its child of vfork is killed half-way (`launch.recover`)."""

from __future__ import annotations

import _signal
import sys

from ..errors import Interrupted
from ..launch.recover import ending
from ..lean import os
from ..options import Options
from ..runtime.delete import remove_unfinished
from .log import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """
    Remove the container that the command line names, and report why.

    If a signal was the reason, it is still pending here, and decides the exit status.

    All signals are still blocked, as in the command: a pending one must not end this process first.
    """
    root, name, created, path, form, pid = sys.argv[1:]
    log = Log(path, form, debug=False)
    options = Options(root=root, log=path, log_format=form, warn=log.warning)
    ended = os.waitid(os.P_PID, int(pid), os.WEXITED)
    assert ended is not None  # no WNOHANG
    error = remove_unfinished(options, name, created, ending(ended))
    pending = _signal.sigpending() & {_signal.SIGINT, _signal.SIGTERM}
    sys.exit(log.error(Interrupted.by(min(pending)) if pending else error))
