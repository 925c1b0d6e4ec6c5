"""
What a process executes if its child of vfork is killed during its steps.

The child may have left the shared memory half written, so it must not be used any more: the process
executes a new Python, which removes the container.
"""

from __future__ import annotations

import sys

from ..errors import StepError
from ..lean import os
from ..lean.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..options import Options
    from ..state.record import State


class Recovery(Record):
    """
    What a process executes.

    command    (path, arguments...); the child's pid is appended
    inherited  the descriptors that it inherits
    """

    command: tuple[bytes, ...]
    inherited: tuple[int, ...] = ()


def python(function: str, *arguments: str) -> tuple[bytes, ...]:
    """
    The command that calls MODULE:FUNCTION in another Python, with this one's import path.

    The interpreter is this process's own executable, sealed or not: its path may no longer exist.
    """
    module, _, name = function.partition(":")
    code = f"import sys; sys.path = {sys.path!r}; from {module} import {name}; {name}()"
    words = ("/proc/self/exe", sys.executable, "-BISXutf8", "-c", code, *arguments)
    return tuple(os.fsencode(word) for word in words)


def of_command(options: Options, state: State) -> Recovery:
    """What a command executes: it removes the container that the command was creating."""
    words = (options.root, state.id, state.created, options.log, options.log_format)
    return Recovery(command=python("pycontain.cli.recover:main", *words))


def death(what: str, step: str = "") -> StepError:
    """The error for a container whose first process ended before its program ran."""
    return StepError(
        what,
        step=step,
        at="the container's first process",
        remedy="see the kernel log for the reason, such as the out-of-memory killer",
    )


def ending(ended: os.waitid_result) -> str:
    """How a process ended, in words."""
    killed = ended.si_code != os.CLD_EXITED
    return f"{'was killed by signal' if killed else 'exited with'} {ended.si_status}"
