"""
The child's protection against loading code from the container.

An interpreter loads code when it needs it: after the pivot it would load the container's
(CVE-2019-14271 was this, with libraries). So everything is loaded before, and imports are blocked
from the first step on. `tests/security/test_imports_are_blocked.py` plants files that would
otherwise be loaded.
"""

from __future__ import annotations

import _signal
import errno
import gc
import sys

from ..errors import KernelError
from ..kernel import calls
from ..kernel import const as c
from ..lean import os
from ..plan import steps
from ..plan.walk import child_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context

_MESSAGE = b"pycontain: a process inside a container tried to load code; it ends here\n"
_FORBIDDEN = ("import", "compile", "exec", "ctypes.dlopen", "subprocess.Popen")
_EMPTY: dict[str, object] = {
    "meta_path": [], "path_hooks": [], "path": [], "path_importer_cache": {},
}  # fmt: skip


class _Imports:
    """
    What imports need, taken from the interpreter while they are blocked.

    It is not freed: that would write to each of its pages, which the kernel would then copy.
    """

    kept: dict[str, object] = {}
    blocked = False


@child_step(steps.Guard)
def guard(step: steps.Guard, context: Context) -> None:
    """
    Block imports, stop the garbage collector, reset signals, mark descriptors close-on-exec.

    The caller's command line and environment are erased, since processes inside could read them in
    /proc/PID; not in a child of vfork, which shares them with its parent.
    """
    if context.channel is not None:
        calls.erase_command_line()
    gc.disable()  # no finaliser runs at an unexpected moment
    block_imports()
    calls.default_signals()
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())  # the parent blocked them all
    # no process inside may inspect this one (CVE-2016-9962)
    calls.prctl(c.PR_SET_DUMPABLE, 0, name="PR_SET_DUMPABLE")
    context.preserved = step.preserve_fds
    calls.close_range(3 + step.preserve_fds, on_exec=True)
    for fd in range(3, 3 + step.preserve_fds):
        os.set_inheritable(fd, True)


def block_imports() -> None:
    """From here on no code can be loaded: an attempt ends the process."""
    if not _Imports.kept:
        sys.addaudithook(_refuse)
    _Imports.kept = {name: getattr(sys, name) for name in _EMPTY}
    vars(sys).update(_EMPTY)
    _Imports.blocked = True


def allow_imports() -> None:
    """Allow imports again, in the parent, once a child of vfork has gone."""
    if _Imports.blocked:
        vars(sys).update(_Imports.kept)
        _Imports.blocked = False


def _refuse(event: str, _: object) -> None:
    """An audit hook (PEP 578): it cannot be removed."""
    if _Imports.blocked and event in _FORBIDDEN:
        os.write(2, _MESSAGE)
        os._exit(255)


@child_step(steps.JoinKeyring)
def join_keyring(step: steps.JoinKeyring, context: Context) -> None:
    """Leave the caller's keyring; a kernel without keyrings fails with ENOSYS, which is ignored."""
    try:
        calls.new_session_keyring()
    except KernelError as error:
        if error.errno != errno.ENOSYS:
            raise
