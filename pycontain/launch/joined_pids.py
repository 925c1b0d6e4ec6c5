"""The parent takes over the program's process, which the child creates in a joined namespace."""

from __future__ import annotations

from ..errors import KernelError, StepError
from ..kernel.bare import SharedPid
from ..kernel.files import read_bytes
from ..lean import os
from ..plan.steps import joined_pids
from ..plan.walk import parent_step
from ..wire import sync
from .child import Child
from .recover import death

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.wait import Until
    from .launch import Launch

_STEP = joined_pids.EnterPids.name


class Entrance:
    """
    The connection to the process that the child will create inside.

    channel     the parent's end of the channel
    theirs      the process's end
    shared_pid  its pid
    pid         its pid inside, once it was taken over
    """

    def __init__(self, until: Until) -> None:
        """until: what ends the wait for a message of the process."""
        self.channel, self.theirs = sync.Channel.uncounted_pair(until)
        self.shared_pid = SharedPid()
        self.pid = 0
        self._origin = 0, 0

    def expect_from(self, child: int) -> None:
        """Remember the parent and the start time of the creator, the process with this pid."""
        self._origin = _origin(child)

    def check(self, pid: int) -> None:
        """
        Find the pid inside. Raises StepError for a process that the child cannot have created.

        The kernel writes the number, and no process inside can; this check makes sure that only our
        process is killed when something fails. Comparing namespaces would need CAP_SYS_PTRACE.
        """
        parent, began = self._origin
        its_parent, its_beginning = _origin(pid)
        if its_parent != parent or its_beginning < began:
            raise StepError("was not created by the child", at="process", value=str(pid))
        lines = read_bytes(f"/proc/{pid}/status").splitlines()
        [numbers] = [line for line in lines if line.startswith(b"NSpid:")]
        self.pid = int(numbers.split()[-1])

    def close(self) -> None:
        """Close both ends; a second call does nothing."""
        self.channel.close()
        self.theirs.close()


def _origin(pid: int) -> tuple[int, int]:
    """(parent, start time in clock ticks since boot) of a process. proc_pid_stat(5)."""
    fields = read_bytes(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return int(fields[1]), int(fields[19])


@parent_step(joined_pids.TakeOver)
def take_over(step: joined_pids.TakeOver, launch: Launch) -> None:
    """
    Continue with the process that the child has created before it exits.

    It waits on a pipe, and exits if we end before we have taken it over.
    """
    entrance = launch.entrance
    assert entrance is not None, "the step `spawn` creates it where this step follows"
    if sync.await_child(launch.channel)[0] != "end":
        raise StepError("has not ended with its last step", at="the child")
    word, _ = sync.await_child(entrance.channel)
    pid = entrance.shared_pid.number
    if pid < 0:
        raise KernelError.of("clone", -pid).in_step(_STEP)
    if word != "done" or pid == 0:
        raise death("ended before the program's process existed", _STEP)
    pidfd = os.pidfd_open(pid)
    try:
        entrance.check(pid)
    except BaseException:
        os.close(pidfd)
        raise
    launch.channel.close()
    launch.add_child(Child(pid, pidfd))
    launch.channel = entrance.channel
