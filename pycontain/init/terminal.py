"""The child opens a terminal in the container's devpts."""

from __future__ import annotations

import errno

from ..kernel import sockets, tty
from ..kernel.mounts import Tree
from ..lean import os
from ..plan.steps import terminal
from ..plan.walk import child_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context


@child_step(terminal.OpenTerminal)
def open_terminal(step: terminal.OpenTerminal, context: Context) -> None:
    """Open a terminal, send its master to the caller, and make it the standard streams."""
    master, slave = tty.open_pair(context.inside)
    if step.rows or step.columns:
        tty.set_size(master, step.rows, step.columns)
    if step.plain:
        tty.keep_newlines(slave)
    _own_terminal(slave, step.uid)
    if step.mount:
        console = context.inside.open("/dev/console")
        Tree.clone(slave, at="/dev/console").attach(console, "/dev/console")
    sockets.send(context.console, master, b"/dev/ptmx")
    if step.control:
        os.setsid()
        tty.make_controlling(slave)
    tty.make_standard(slave)
    os.close(master)


def _own_terminal(slave: int, uid: int) -> None:
    """Let the user open its terminal by name; if /dev/pts is read-only, root stays the owner."""
    try:
        os.fchown(slave, uid, -1)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
