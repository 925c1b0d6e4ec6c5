"""
The parent's steps for a filter that notifies an agent (SCMP_ACT_NOTIFY). config-linux.md, Seccomp.

Any system call of the process that loads the filter may wait for the agent, so the process cannot
report that the listener exists: the parent looks for it among that process's descriptors.
seccomp_unotify(2), pidfd_getfd(2).
"""

from __future__ import annotations

from ..errors import KernelError
from ..kernel import calls, sockets
from ..lean import jsontext, os
from ..plan import steps
from ..plan.steps import notify
from ..plan.walk import parent_step
from ..spec.names import OCI_VERSION
from ..wire import sync
from .recover import death

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .launch import Launch

_LINK = "anon_inode:seccomp notify"
_PAUSE = 0.001  # seconds between two attempts: no event tells that the filter is loaded
_NAME = "seccompFd"  # SeccompFdName, config-linux.md


@parent_step(notify.ConnectListener)
def connect_listener(step: notify.ConnectListener, launch: Launch) -> None:
    """Connect to the agent's socket."""
    try:
        launch.agent = sockets.connect(step.path)
    except KernelError as error:
        error.fault.at = f"{step.why} = {step.path}"
        raise


@parent_step(notify.SendListener)
def send_listener(step: notify.SendListener, launch: Launch) -> None:
    """Send the listener, and the container's state; then the child can continue."""
    listener = _take_listener(launch)
    message = {
        "ociVersion": OCI_VERSION,
        "fds": [_NAME],
        "pid": launch.child.pid,
        "metadata": step.metadata,
        "state": launch.public_state(),
    }
    agent, launch.agent = launch.agent, -1
    try:
        sockets.send(agent, listener, jsontext.dumps(message).encode())
    except OSError as error:
        raise KernelError.of("sendmsg", error.errno or 0, step.why) from None
    finally:
        os.close(listener)
    if launch.entrance is None:  # a bare process reports nothing before its program
        _, times = sync.await_child(launch.channel)
        launch.times += [("child", name, spent) for name, spent in times]


def _take_listener(launch: Launch) -> int:
    """Wait until the process has loaded the filter. Raises its error if it fails before that."""
    while True:
        ended = launch.caller.until.wait(launch.channel.reader, _PAUSE)
        fd = _find(launch.child.pid)
        if fd >= 0:
            return calls.descriptor_of(launch.child.pidfd, fd)
        if ended:
            sync.await_child(launch.channel)
            raise death("ended before it had a filter", steps.LoadSeccomp.name)


def _find(pid: int) -> int:
    """The number of a process's listener, -1 without one: the child has no other."""
    directory = f"/proc/{pid}/fd"
    try:
        for name in os.listdir(directory):
            if os.readlink(f"{directory}/{name}") == _LINK:
                return int(name)
    except (FileNotFoundError, ProcessLookupError):
        pass  # closed meanwhile, or the process has ended
    except PermissionError as error:
        raise KernelError.of("readlink", error.errno or 0, directory) from None
    return -1
