"""
The child stops being an ordinary Python process.

An interpreter reads code when it needs it: after the pivot it would read the container's
(CVE-2019-14271 was this, with libraries). So everything is loaded before, and from the first step
on nothing can be imported; the test `tests/security/test_imports_are_sealed.py` plants traps.
"""

from __future__ import annotations

import _signal
import errno
import gc
import sys

from .. import os
from ..errors import KernelError
from ..kernel import calls
from ..kernel import const as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan.steps import Guard, JoinKeyring
    from .box import Box

_LAST_WORDS = b"pycontain: code was about to be loaded inside a container; the process ends here\n"
_FORBIDDEN = ("import", "compile", "exec", "ctypes.dlopen", "subprocess.Popen")
_EMPTY: dict[str, object] = {
    "meta_path": [], "path_hooks": [], "path": [], "path_importer_cache": {},
}  # fmt: skip


class _Seal:
    """
    What imports need, taken from the interpreter; `closed` while it is.

    It is kept, not freed: that would write to each of its pages, which then are copied.
    """

    kept: dict[str, object] = {}
    closed = False


def guard(step: Guard, box: Box) -> None:
    """Seal imports, stop the garbage collector, reset signals, mark descriptors close-on-exec."""
    gc.disable()  # no finaliser runs at a moment nobody chose
    seal()
    calls.default_signals()
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())  # the parent blocked them all
    # nobody inside may look into this process (CVE-2016-9962)
    calls.prctl(c.PR_SET_DUMPABLE, 0, name="PR_SET_DUMPABLE")
    box.preserved = step.preserve_fds
    calls.close_range(3 + step.preserve_fds, on_exec=True)
    for fd in range(3, 3 + step.preserve_fds):
        os.set_inheritable(fd, True)


def seal() -> None:
    """From here on no code can be loaded: whoever tries ends the process."""
    if not _Seal.kept:
        sys.addaudithook(_refuse)
    _Seal.kept = {name: getattr(sys, name) for name in _EMPTY}
    vars(sys).update(_EMPTY)
    _Seal.closed = True


def unseal() -> None:
    """In the parent, when a child that borrowed its memory is gone."""
    if _Seal.closed:
        vars(sys).update(_Seal.kept)
        _Seal.closed = False


def _refuse(event: str, _: object) -> None:
    """An audit hook (PEP 578): it cannot be removed."""
    if _Seal.closed and event in _FORBIDDEN:
        os.write(2, _LAST_WORDS)
        os._exit(255)


def join_keyring(step: JoinKeyring, box: Box) -> None:
    """Leave the caller's keyring; a kernel without keyrings (ENOSYS) has none to leak."""
    try:
        calls.new_session_keyring()
    except KernelError as error:
        if error.errno != errno.ENOSYS:
            raise
