"""
A program in a virtual machine as the last step of a container.

Monitor is made by the runtime, on the host. serve() is called by the container's first process,
when the root file system is `/` and the process has become all that the configuration says: what
it needs was loaded and opened before, and nothing is from then on.
"""

from __future__ import annotations

import _signal
import gc
import os

from ..errors import fault_of
from ..kernel import calls
from . import jail, program
from .deadline import Deadline
from .linux import family
from .linux.task import User
from .owned import Owned
from .serve import Serve
from .trace import Stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from .kvm import Kvm
    from .linux.ending import ProgramEnding

_RLIMITS = 16
_NEVER_BLOCKED = {_signal.SIGKILL, _signal.SIGSTOP, 32, 33}  # the last two are the C library's
_SIGNALS = frozenset(range(1, 65)) - _NEVER_BLOCKED


class Monitor:
    """
    What the monitor of a program needs, loaded and opened: its engine, and /dev/kvm.

    Raises HostError for an engine that this host does not provide.
    """

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.kvm: Kvm | None = None
        program.load(engine)
        if engine == "kvm":
            from .kvm import Kvm

            self.kvm = Kvm()

    @property
    def fds(self) -> set[int]:
        """Its descriptors."""
        return {self.kvm.fd} - {-1} if self.kvm else set()

    def close(self) -> None:
        """Close them."""
        if self.kvm:
            self.kvm.close()


def serve(
    monitor: Monitor, path: str, arguments: Sequence[str], environment: Sequence[bytes], *,
    memory: int, running: Callable[[], None],
) -> NoReturn:  # fmt: skip
    """
    Run the program to its end, and end like it.

    running is called when all is ready for the program's first instruction. Raises PycontainError
    before that.
    """
    gc.freeze()  # what the runtime has left behind is never finalized here
    gc.enable()
    world = program.World(
        root="/", writable=True, cwd=os.getcwd(), streams_as_opened=True, memory=memory,
        user=_user(),
    )  # fmt: skip
    deadline = Deadline(None, "the program", _SIGNALS)
    deadline.__enter__()  # for good
    for number in (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM):
        _signal.signal(number, _signal.SIG_DFL)  # handlers of the wait for `start`
    owned = Owned()
    task = program.prepare(path, world, deadline, monitor.engine, owned, kvm=monitor.kvm)
    process = task.process
    process.limits = {each: calls.limits_of(0, each) for each in range(_RLIMITS)}
    process.umask = os.umask(0)
    os.umask(process.umask)
    process.actions.is_init = os.getpid() == 1
    program.start(task, arguments, [os.fsdecode(each) for each in environment], world, path)
    loop = Serve(task, Stats(), None)
    jail.close(process.view)
    running()
    status = 255
    try:
        loop.run()
    except BaseException as error:  # nobody is left to be told but who reads the program's output
        os.write(2, f"pycontain: {fault_of(error).line()}\n".encode())
    finally:
        family.end_all(process)
    if process.ending:
        _end(process.ending)
    os._exit(status)


def _user() -> User:
    _, hostname, *_ = os.uname()
    groups = tuple(os.getgroups())
    return User(uid=os.getuid(), gid=os.getgid(), groups=groups, hostname=hostname)


def _end(ending: ProgramEnding) -> NoReturn:
    """End as the program did; the first process of a namespace cannot kill itself by a signal."""
    if ending.signal:
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [ending.signal])
        os.kill(os.getpid(), ending.signal)
    os._exit(ending.status)
