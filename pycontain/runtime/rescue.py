"""
What a process becomes whose child was killed while it borrowed its memory.

That memory may be half written, so nothing more is done with it: the process executes a new Python,
which removes the container.
"""

from __future__ import annotations

import sys

from .. import os
from ..errors import PycontainError, StateError, StepError, fault_of
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .options import Options


class Rescue(Record):
    """
    What a process becomes.

    command  (path, arguments...); the child's pid is added
    heirs    the descriptors that it inherits
    """

    command: tuple[bytes, ...]
    heirs: tuple[int, ...] = ()


def python(function: str, *arguments: str) -> tuple[bytes, ...]:
    """
    The command that calls MODULE:FUNCTION in another Python, with the import path of this.

    The interpreter is this very file, sealed if it is: where it came from may be gone.
    """
    module, _, name = function.partition(":")
    code = f"import sys; sys.path = {sys.path!r}; from {module} import {name}; {name}()"
    words = ("/proc/self/exe", sys.executable, "-ISXutf8", "-c", code, *arguments)
    return tuple(os.fsencode(word) for word in words)


def rescue(options: Options, id: str, created: str) -> Rescue:
    """What a command becomes, with the container that it was making."""
    told = (options.root, id, created, options.log, options.log_format)
    return Rescue(command=python("pycontain.cli.rescue:main", *told))


def remove(options: Options, id: str, created: str, how: str) -> StepError:
    """
    Remove the container that was being made, unless it is gone or the name is another's by now.

    how says how its first process ended. Returns the error to tell. Its poststop hooks do not run,
    since no other hooks did.
    """
    from .container import Container
    from .delete import destroy

    try:
        container = Container(options, id, lock=True)
        with container.directory:
            if container.state.created == created:
                container.state = container.state.but(poststop=False)
                destroy(options, container)
    except StateError:
        pass  # somebody else has removed it
    except (PycontainError, OSError) as error:
        options.warn(f"{id} cannot be removed: {fault_of(error).line()}")
    return death(f"{how} while it was set up")


def death(what: str, step: str = "") -> StepError:
    """The error for a container whose first process is gone before its program ran."""
    return StepError(
        what,
        step=step,
        at="the container's first process",
        remedy="look for the reason in the kernel log, such as the out-of-memory killer",
    )


def ending(ended: os.waitid_result) -> str:
    """How a process ended, in words."""
    killed = ended.si_code != os.CLD_EXITED
    return f"{'was killed by signal' if killed else 'exited with'} {ended.si_status}"
