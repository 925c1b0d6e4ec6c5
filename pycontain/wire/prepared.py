"""
The messages of a bare process (`kernel.bare`) to the parent, prepared by its creator.

`sync` describes when they are sent, and reads them.
"""

from __future__ import annotations

from ..errors import HookError
from ..kernel.bare import TAIL, TOO_LATE
from ..lean import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..errors import PycontainError

EXISTS = b'{"done":[]}\n'  # the process exists
EXEC = b'{"exec":[]}\n'  # execve comes next


def failure(error: PycontainError, cases: Mapping[int, PycontainError] | None = None) -> bytes:
    """
    The message for a system call that fails; the process inserts the errno.

    cases  the errors for certain errnos; otherwise the errno's text is added to that of the error
    """
    message: dict[str, object] = {"fault": {"why": "", **error.fault.record()}}
    if cases:
        message["cases"] = {str(errno): case.fault.record() for errno, case in cases.items()}
    return _with_number(message)


def hook_failure(error: HookError, seconds: int | None) -> bytes:
    """
    The message for a hook that fails; the process inserts the hook's wait status.

    seconds  the hook's timeout, None for none
    """
    late = HookError(f"ran longer than its timeout of {seconds} s", call=error.fault.call)
    late.fault.at, late.fault.step = error.fault.at, error.fault.step
    message: dict[str, object] = {
        "fault": error.fault.record(),
        "cases": {str(TOO_LATE): late.fault.record()},
        "hook": True,
    }
    return _with_number(message)


def _with_number(message: dict[str, object]) -> bytes:
    return jsontext.dumps(message).encode()[:-1] + b',"errno":"' + TAIL
