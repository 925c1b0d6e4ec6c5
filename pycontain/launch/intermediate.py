"""
The intermediate process, which creates a child in a user namespace.

Only a process in a user namespace can create namespaces that belong to it, and a process that has
entered one cannot leave it. So an intermediate process enters it, and the other namespaces to join,
becomes its root, and creates the child, which never has the rights of the host's root. The runtime
remains the child's parent (CLONE_PARENT). clone(2), setns(2), user_namespaces(7).

The child's mounts were prepared by the parent, but the restrictions of a detached mount would not
bind it: only mounts that a new mount namespace copies from a more privileged one are locked
(mount_namespaces(7)). So the intermediate process attaches them first, in a mount namespace of its
own, on a tmpfs (the stage) that covers the rootfs, as the container's root will. The child reaches
the stage as its working directory, which the kernel replaces by that of its own copy; no path is
needed.
"""

from __future__ import annotations

from ..init.rootfs import open_host
from ..kernel import calls
from ..kernel import const as c
from ..kernel.descriptors import close_lock_copies
from ..kernel.mounts import Tree
from ..kernel.root import is_directory
from ..kernel.userns import enter
from ..lean import os
from ..wire import sync
from .child import Child, clone_flags
from .launch import ContainerLaunch
from .recover import death

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from ..init.context import Context
    from ..plan import steps
    from .launch import Launch

_OPEN = os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW  # a mount can be of a symlink


def create(step: steps.Spawn, launch: Launch, context: Context, cgroup: int) -> tuple[int, int]:
    """
    Create the child, as `calls.clone3` does: (pid, pidfd) in this process, (0, -1) in the child.

    If the intermediate process is killed at once, it is returned in place of the child:
    `fork.make_child` notices that. Raises StepError if it is killed later, and KernelError if it
    cannot enter a namespace or create the child.
    """
    ours, theirs = sync.Channel.uncounted_pair(launch.caller.until)
    pid, pidfd = calls.clone3(launch.caller.clone_flags, cgroup)
    if pid == 0:
        close_lock_copies()
        ours.close()
        return _enter_and_create(step, launch, context, theirs)
    theirs.close()
    if not sync.is_alive(ours):
        ours.close()
        return pid, pidfd
    launch.add_child(Child(pid, pidfd))
    try:
        child = sync.await_pid(ours)
        if child == 0:
            raise death("died before the child existed", step.name)
        return child, os.pidfd_open(child)
    finally:
        ours.close()


def _enter_and_create(
    step: steps.Spawn, launch: Launch, context: Context, channel: sync.Channel
) -> tuple[int, int]:
    """In the intermediate process: returns in the child alone."""
    try:
        sync.report_alive(channel)
        # processes in these namespaces may not inspect this one (CVE-2016-9962)
        calls.prctl(c.PR_SET_DUMPABLE, 0, name="PR_SET_DUMPABLE")
        *others, user = step.enters
        for kind in others:
            calls.setns(launch.namespaces[kind], kind)
        flags = clone_flags(step, launch)
        staged = context.trees if step.flags & c.CLONE_NEWNS else {}
        if isinstance(launch, ContainerLaunch):  # exec creates no namespaces
            _stage(staged, launch)
        enter(launch.namespaces[user], user, *context.root_ids)
        pid, _ = calls.clone3(flags | c.CLONE_PARENT)
        if pid == 0 and staged:
            _clone_from_stage(context)
    except BaseException as error:  # nothing may escape into the caller's stack
        _end(channel, error)
    if pid:
        _end(channel, pid)
    channel.close()
    return 0, -1


def _end(channel: sync.Channel, result: int | BaseException) -> NoReturn:
    """Exit after reporting the child's pid or an error, which fails if the parent has ended."""
    try:
        if isinstance(result, int):
            sync.report_pid(channel, result)
        else:
            sync.report_fault(channel, result)
    finally:
        os._exit(0)


def _stage(trees: dict[str, int], launch: ContainerLaunch) -> None:
    """Attach the prepared mounts in a new mount namespace, below the working directory."""
    slash, rootfs = open_host("/"), launch.state.rootfs
    calls.unshare(c.CLONE_NEWNS)
    Tree(open_host("/")).propagate(c.MS_SLAVE, recursive=True)
    # what covers "/" would be unmounted in place of the old root, or not at all
    hosts_root = os.path.samestat(os.stat(rootfs), os.fstat(slash))
    target = open_host(launch.directory.path if hosts_root else rootfs)
    stage = Tree.new("tmpfs", ("mode=755",)).fd
    Tree(stage).attach(target, rootfs)
    for index, tree in enumerate(trees.values()):
        name = str(index)
        if is_directory(tree):
            os.mkdir(name, dir_fd=stage)
        else:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=stage))
        target = os.open(name, _OPEN, dir_fd=stage)
        Tree(tree).attach(target, name)
        os.close(target)
    os.fchdir(stage)


def _clone_from_stage(context: Context) -> None:
    """In the child: replace the prepared mounts by clones of their copies in its own namespace."""
    context.stage = os.open(".", _OPEN)
    for index, key in enumerate(context.trees):
        os.close(context.trees[key])
        source = os.open(str(index), _OPEN, dir_fd=context.stage)
        context.trees[key] = Tree.clone(source, recursive=True, at=key).fd
        os.close(source)
    os.chdir("/")
