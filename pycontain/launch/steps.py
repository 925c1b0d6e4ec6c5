"""
The parent's steps, in the order of `plan.steps.parent`: what is done on the host.

Each function performs one step, and registers with `on_undo` how to undo what it changes.
"""

from __future__ import annotations

import errno

from ..cgroup.devices import attach
from ..cgroup.disabled import NoCgroup, log_unfiltered
from ..cgroup.place import find_mount, own, resolve
from ..cgroup.tree import Cgroup
from ..errors import KernelError
from ..kernel.files import start_time
from ..kernel.rights import is_rootless
from ..kernel.safe_path import Directory
from ..lean import os
from ..plan import steps
from ..plan.walk import parent_step
from ..state.directory import open_root
from .launch import ContainerLaunch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .launch import Launch

_UNDELEGATED = (errno.EACCES, errno.EPERM, errno.EROFS)
_SAVING = ("cgroup", "unit")  # steps that save the state, with the cgroup


@parent_step(steps.Reserve)
def reserve(step: steps.Reserve, launch: ContainerLaunch) -> None:
    """Create the state directory, which must not exist yet, and fill it."""
    launch.directory.reserve()
    launch.on_undo(launch.remove_directory)
    launch.directory.open_process()
    launch.directory.save_config(launch.config)
    if not any(following.name in _SAVING for following in launch.turns[0].steps):
        launch.directory.save(launch.state)


@parent_step(steps.MakeCgroup)
def make_cgroup(step: steps.MakeCgroup, launch: ContainerLaunch) -> None:
    """
    Create the cgroup, then write the state, which includes it.

    The state is drafted before: if we are killed in between, `delete` must know what to remove.
    """
    mount = find_mount()
    path = resolve(step.path, launch.directory.id, own())
    state = launch.state.replace(mount=mount, cgroup=path)
    cgroup = Cgroup(mount, path)
    launch.options.detail(f"cgroup: {cgroup.directory}")
    try:
        cgroup.create(lambda paths: launch.directory.draft(state.replace(made=paths)))
    except KernelError as error:
        if not (is_rootless(launch.options.rootless) and error.errno in _UNDELEGATED):
            raise
        why = f"no cgroup is delegated to this user: {error.fault.line()}"
        launch.cgroup = NoCgroup(why, "use --systemd-cgroup, or systemd-run --user --scope")
        launch.directory.save(launch.state)
        return
    launch.cgroup = cgroup
    launch.on_undo(cgroup.clear)  # the child may have forked
    launch.state = state.replace(made=cgroup.made)
    launch.directory.save(launch.state)


@parent_step(steps.LimitCgroup)
def limit_cgroup(step: steps.LimitCgroup, launch: ContainerLaunch) -> None:
    """Write the limits, before any process is in the cgroup."""
    launch.cgroup.write(step.settings, launch.options.without_limit)


@parent_step(steps.GiveCgroup)
def give_cgroup(step: steps.GiveCgroup, launch: ContainerLaunch) -> None:
    """Change the owner of the files with which a cgroup is divided."""
    if isinstance(launch.cgroup, Cgroup):  # to some users none is delegated
        launch.cgroup.give(launch.host_uid(step.uid))


@parent_step(steps.FilterDevices)
def filter_devices(step: steps.FilterDevices, launch: ContainerLaunch) -> None:
    """Attach the device filter. It is removed with the cgroup."""
    cgroup = launch.cgroup
    if isinstance(cgroup, NoCgroup):
        return log_unfiltered(launch.options, len(step.rules))
    attach(cgroup.fd, step.program, first=cgroup.is_new, kept=launch.caller.filters)


@parent_step(steps.CompileSeccomp)
def compile_seccomp(step: steps.CompileSeccomp, launch: Launch) -> None:
    """Compile the system call filter, or find it in the cache."""
    from ..kernel.seccomp import compiled
    from ..plan.seccomp import key

    root = launch.options.root
    cache = os.path.join(root, ".seccomp")
    launch.seccomp = compiled(step.profile, key(step.profile), cache, open_root(root))


@parent_step(steps.Spawn)
def spawn(step: steps.Spawn, launch: Launch) -> None:
    """Create the child. With vfork, it has performed all other steps when this returns."""
    launch.on_undo(launch.kill_child)
    try:
        _make_child(step, launch)
    except KernelError as error:
        if error.fault.call == "clone3" and error.errno == errno.EPERM:
            error.fault.remedy = "grant CAP_SYS_ADMIN; `pycontain doctor` lists what is missing"
        raise
    launch.close_what_the_child_has()


def _make_child(step: steps.Spawn, launch: Launch) -> None:
    if isinstance(launch, ContainerLaunch) and not step.fork_because:
        from . import vfork

        vfork.make_child(step, launch)
    else:
        from . import fork

        fork.make_child(step, launch)


@parent_step(steps.RecordPid)
def record_pid(step: steps.RecordPid, launch: ContainerLaunch) -> None:
    """Write pid and start time to the state directory."""
    pid = launch.child.pid
    launch.state = launch.state.replace(pid=pid, start_time=start_time(pid))
    launch.directory.save_process(launch.state)


@parent_step(steps.AdjustOomScore)
def adjust_oom_score(step: steps.AdjustOomScore, launch: Launch) -> None:
    """Write oom_score_adj from outside, since the container may have no /proc."""
    path = f"/proc/{launch.child.pid}/oom_score_adj"
    try:
        _write(path, str(step.score), "process.oomScoreAdj")
    except KernelError as error:  # only the host's root may lower it: proc(5)
        if not (is_rootless(launch.options.rootless) and error.errno == errno.EACCES):
            raise
        launch.options.warn(f"{error.fault.line()}; it stays as it is")


@parent_step(steps.WritePidFile)
def write_pid_file(step: steps.WritePidFile, launch: Launch) -> None:
    """
    Write the pid file, atomically, also in a directory of another user.

    A link or a FIFO of that name is replaced, not followed or written to.
    """
    folder, name = os.path.split(step.path)
    try:
        parent = Directory(os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        _put_in_place(parent, name, str(launch.child.pid).encode())
    except OSError as error:
        raise KernelError.of("write", error.errno or 0, step.path) from None
    launch.on_undo(lambda: os.unlink(name, dir_fd=parent.fd))


@parent_step(steps.SendPidfd)
def send_pidfd(step: steps.SendPidfd, launch: Launch) -> None:
    """Send a pidfd of the child to a socket."""
    from ..kernel import sockets

    sockets.send(sockets.connect(step.path), launch.child.pidfd)


@parent_step(steps.Announce)
def announce(step: steps.Announce, launch: ContainerLaunch) -> None:
    """Record that the container is created."""
    launch.state = launch.state.replace(phase="created")
    launch.directory.announce()


def _put_in_place(parent: Directory, name: str, content: bytes) -> None:
    """
    Create a file with this content, then give it its name. Raises OSError.

    It has no name until then, so that nothing is left if we are killed. Only to replace another
    file does it need a temporary one between two calls, since linkat(2) does not replace files.
    """
    hidden = f".{name}.{os.getpid()}"
    fd, is_named = _new_file(parent, hidden)
    try:
        os.write(fd, content)
        if not is_named and _link(fd, parent, name):
            return
        if not is_named and not _link(fd, parent, hidden):
            raise FileExistsError(errno.EEXIST, "")
        is_named = True
        os.rename(hidden, name, src_dir_fd=parent.fd, dst_dir_fd=parent.fd)
        is_named = False
    finally:
        if is_named:
            os.unlink(hidden, dir_fd=parent.fd)
        os.close(fd)


def _new_file(parent: Directory, hidden: str) -> tuple[int, bool]:
    """(descriptor, whether it has a name) of a new file: `hidden` where it cannot have none."""
    flags = os.O_WRONLY | os.O_CLOEXEC
    try:
        return os.open(".", flags | os.O_TMPFILE, 0o644, dir_fd=parent.fd), False
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
    # O_EXCL: in a directory like /tmp others could have created a link
    return os.open(hidden, flags | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=parent.fd), True


def _link(fd: int, parent: Directory, name: str) -> bool:
    """Give a file a name; False if there is one with that name. open(2), O_TMPFILE."""
    try:
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=parent.fd)
    except FileExistsError:
        return False
    return True


def _write(path: str, text: str, at: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError.of(f"write {path}", error.errno or 0, f"{at} = {text}") from None
