"""The parent's steps of restoring a container, in the order of `steps.criu`. criu(8)."""

from __future__ import annotations

import _signal

from ..cgroup.tree import Cgroup
from ..cgroup.unit import UnitCgroup
from ..errors import HostError
from ..init.rootfs import open_host
from ..kernel import calls
from ..kernel import const as c
from ..kernel.descriptors import close_lock_copies
from ..kernel.files import read_text
from ..kernel.mounts import Tree
from ..lean import os
from ..plan.criu import NETWORK
from ..plan.steps import criu as steps
from ..plan.walk import parent_step
from ..wire import EXIT_FAILED, sync
from .child import Child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

    from .launch import ContainerLaunch

_PID_FILE = "criu.pid"  # in the state directory


@parent_step(steps.SpawnCriu)
def spawn(step: steps.SpawnCriu, launch: ContainerLaunch) -> None:
    """Fork, and move the child into the cgroup, unless systemd will do that."""
    launch.on_undo(launch.kill_child)
    ours, theirs = sync.Channel.uncounted_pair(launch.caller.until)
    pid = os.fork()
    if pid == 0:
        ours.close()
        _live_as_child(step, launch, theirs)
    theirs.close()
    launch.add_child(Child(pid, os.pidfd_open(pid)))
    launch.channel = ours
    launch.on_release(ours.close)
    if isinstance(launch.cgroup, Cgroup) and not isinstance(launch.cgroup, UnitCgroup):
        launch.cgroup.enter(pid)


def _live_as_child(
    step: steps.SpawnCriu, launch: ContainerLaunch, channel: sync.Channel
) -> NoReturn:
    """Wait for the cgroup; then give criu what it expects, and execute it."""
    try:
        close_lock_copies()
        sync.await_turn(channel)
        try:
            _prepare(step)
            command = [*step.command, "--pidfile", launch.directory.file(_PID_FILE)]
            command += _inherited(step)
            _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
            _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
            os.execve(command[0], command, os.environ)
        except BaseException as error:  # the parent raises it
            sync.report_fault(channel, error)
    finally:  # whatever happens, the child must not continue as the parent
        os._exit(EXIT_FAILED)


def _prepare(step: steps.SpawnCriu) -> None:
    """
    The namespaces that criu does not make: what it restores inherits the one of cgroups.

    It takes the root from a mount of its own, which the host does not see.
    """
    calls.unshare(c.CLONE_NEWNS | (c.CLONE_NEWCGROUP if step.cgroup_namespace else 0))
    host = open_host("/")
    Tree(host).propagate(c.MS_SLAVE, recursive=True)
    os.close(host)
    root = open_host(step.rootfs)
    tree = Tree.clone(root, recursive=True, at=step.rootfs)
    tree.attach(root, step.rootfs)
    os.close(tree.fd)
    os.close(root)


def _inherited(step: steps.SpawnCriu) -> Iterator[str]:
    """The arguments that give descriptors to criu: copies of the streams, and the network."""
    names = dict(zip(step.streams, range(3), strict=False))  # a file may be two streams
    files = [(name, os.dup(fd)) for name, fd in names.items() if name]
    if step.network:
        files.append((NETWORK, os.open(step.network, os.O_RDONLY)))
    for name, fd in files:
        os.set_inheritable(fd, True)
        yield "--inherit-fd"
        yield f"fd[{fd}]:{name}"


@parent_step(steps.RestoreProcesses)
def restore(step: steps.RestoreProcesses, launch: ContainerLaunch) -> None:
    """Let the child execute criu, wait for it, and continue with the process that it restored."""
    sync.pass_turn(launch.channel)
    sync.is_alive(launch.channel)  # closed by execve; raises the child's error if it has failed
    launch.caller.until.wait(launch.child.pidfd)
    ended = os.waitid(os.P_PIDFD, launch.child.pidfd, os.WEXITED | os.WNOWAIT)
    if ended is None or ended.si_status or ended.si_code != os.CLD_EXITED:
        raise failure("restore", step.log, ended.si_status if ended else 0)
    launch.reap_child()
    pid = int(read_text(launch.directory.file(_PID_FILE)))
    launch.add_child(Child(pid, os.pidfd_open(pid)))


def failure(action: str, log: str, status: int) -> HostError:
    """The error of a criu that failed: the first that its log tells of."""
    text = read_text(log) if os.path.exists(log) else ""
    lines = [line for line in text.splitlines() if "Error (" in line]
    # criu goes on after this one, the first where CAP_SYS_RESOURCE is missing
    lines = [line for line in lines if "RLIMIT_NOFILE" not in line]
    why = lines[0].partition("): ")[2] if lines else f"ended with status {status}"
    return HostError(f"failed: {why}", at=f"criu {action}", remedy=f"its log is {log}")
