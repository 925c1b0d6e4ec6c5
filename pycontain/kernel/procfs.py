"""
A proc file system of a pid namespace that this process is not in, before Linux 6.17.

Since 6.17 it is an option, pidns. Until then it shows the namespace of the process that calls
fsopen(2), which needs CAP_SYS_ADMIN. So a process with only that capability calls it there: a bare
process in an empty root, as root without any other capability. Others there may see it during its
one system call, and those that can inspect it (CAP_SYS_PTRACE) could create more of them.
"""

from __future__ import annotations

import _signal

from ..errors import KernelError
from ..lean import os
from . import calls, sockets
from . import const as c
from .bare import Orders
from .mounts import Tree

_ADMIN = 1 << 21  # CAP_SYS_ADMIN, <linux/capability.h>
_CONNECTION, _CONTEXT = 0, 1


def context_from_inside(pids: int) -> int:
    """A context for the proc file system of this pid namespace. Raises KernelError."""
    ours, theirs = sockets.pair()
    pid = os.fork()
    if pid == 0:
        try:
            _serve(pids, theirs)
        finally:
            os._exit(1)
    os.close(theirs)
    try:
        return sockets.receive(ours)
    except KernelError:
        raise KernelError("cannot be created", call="fsopen", at="proc") from None
    finally:
        os.waitpid(pid, 0)


def _serve(pids: int, connection: int) -> None:
    """Let a child call fsopen inside, and send the descriptor, which it shares with us."""
    calls.prctl(c.PR_SET_DUMPABLE, 0, name="PR_SET_DUMPABLE")
    orders = Orders()
    orders.call(c.SYS_fsopen, orders.string(b"proc"), c.FSOPEN_CLOEXEC)
    calls.setns(pids, c.CLONE_NEWPID)
    os.fchdir(Tree.new("tmpfs", ("size=0", "nr_inodes=1"), c.MOUNT_ATTR_RDONLY).fd)
    os.chroot(".")
    os.dup2(connection, _CONNECTION, inheritable=False)
    calls.close_range(_CONTEXT)
    calls.capset(_ADMIN, _ADMIN, 0)
    child = orders.spawn(c.CLONE_FILES | _signal.SIGCHLD)
    os.waitpid(child, 0)
    sockets.send(_CONNECTION, _CONTEXT)
