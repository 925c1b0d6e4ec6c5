"""
The parent's steps, in the order of `plan.steps.parent`: what is done on the host.

Each function performs one step, and registers with `on_undo` how to undo what it changes.
"""

from __future__ import annotations

import errno

from ..cgroup.devices import attach
from ..cgroup.place import find_mount, own, resolve
from ..cgroup.tree import Cgroup
from ..errors import KernelError, StateError
from ..init.process import schedule
from ..kernel import calls
from ..kernel.files import start_time
from ..kernel.safe_path import Directory
from ..lean import os
from ..plan import steps
from ..plan.namespaces import FILES
from ..plan.walk import parent_step
from ..state.directory import open_root
from ..state.record import public_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .launch import ContainerLaunch, Launch


@parent_step(steps.Reserve)
def reserve(step: steps.Reserve, launch: ContainerLaunch) -> None:
    """Create the state directory, which must not exist yet, and fill it."""
    launch.directory.reserve()
    launch.on_undo(launch.remove_directory)
    launch.directory.open_process()
    launch.directory.save_config(launch.config)
    if not any(isinstance(each, steps.MakeCgroup) for each in launch.turns[0].steps):
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
    cgroup.create(lambda made: launch.directory.draft(state.replace(made=made)))
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
    launch.own_cgroup.give(launch.host_uid(step.uid))


@parent_step(steps.FilterDevices)
def filter_devices(step: steps.FilterDevices, launch: ContainerLaunch) -> None:
    """Attach the device filter. It is removed with the cgroup."""
    cgroup = launch.own_cgroup
    attach(cgroup.fd, step.program, first=cgroup.is_new, kept=launch.caller.filters)


@parent_step(steps.CompileSeccomp)
def compile_seccomp(step: steps.CompileSeccomp, launch: Launch) -> None:
    """Compile the system call filter, or find it in the cache."""
    from ..kernel.seccomp import compiled
    from ..plan.seccomp import key

    root = launch.options.root
    cache = os.path.join(root, ".seccomp")
    launch.seccomp = compiled(step.profile, key(step.profile), cache, open_root(root))


@parent_step(steps.OpenNamespaces)
def open_namespaces(step: steps.OpenNamespaces, launch: Launch) -> None:
    """Open the namespaces to join; check their types, and that none to modify is the host's."""
    for kind, path in step.paths.items():
        try:
            launch.namespaces[kind] = _open_namespace(kind, path)
        except KernelError as error:
            error.fault.at, error.fault.value = step.why, path
            raise
        if kind in step.foreign:
            _refuse_own(kind, path, step.foreign[kind])


@parent_step(steps.ConnectConsole)
def connect_console(step: steps.ConnectConsole, launch: Launch) -> None:
    """Connect to the socket that receives the terminal's master."""
    from ..kernel import sockets

    launch.console = sockets.connect(step.path)


@parent_step(steps.Spawn)
def spawn(step: steps.Spawn, launch: Launch) -> None:
    """Create the child. With vfork, it has performed all other steps when this returns."""
    launch.on_undo(launch.kill_child)
    if step.fork_because:
        from .fork import make_child
    else:
        from .vfork import make_child
    try:
        make_child(step, launch)
    except KernelError as error:
        if error.fault.call == "clone3" and error.errno == errno.EPERM:
            error.fault.remedy = "grant CAP_SYS_ADMIN; `pycontain doctor` tells what is missing"
        raise
    launch.close_what_the_child_has()


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
    _write(path, str(step.score), "process.oomScoreAdj")


@parent_step(steps.SetSchedulerOutside)
def set_scheduler(step: steps.SetSchedulerOutside, launch: Launch) -> None:
    """CPU scheduling of a child that may not be permitted to set its own."""
    schedule(step.wanted, launch.child.pid)


@parent_step(steps.RunHooks)
def run_hooks(step: steps.RunHooks, launch: ContainerLaunch) -> None:
    """Run hooks on the host; the bundle's directory is their working directory."""
    from .. import hooks

    launch.hooks_ran = True
    state = public_state(launch.state, "creating", launch.state.pid)
    until = launch.caller.until
    hooks.run_all(step.hooks, step.kind, state, launch.state.bundle, until=until)


@parent_step(steps.WritePidFile)
def write_pid_file(step: steps.WritePidFile, launch: Launch) -> None:
    """
    Write the pid file, atomically, where the caller says, in whoever's directory.

    A link or a FIFO with its name is replaced, neither followed nor written to.
    """
    folder, name = os.path.split(step.path)
    try:
        place = Directory(os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        _put_in_place(place, name, str(launch.child.pid).encode())
    except OSError as error:
        raise KernelError.of("write", error.errno or 0, step.path) from None
    launch.on_undo(lambda: os.unlink(name, dir_fd=place.fd))


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


def _put_in_place(place: Directory, name: str, content: bytes) -> None:
    """
    Create a file with this content, then give it its name. Raises OSError.

    It has no name until then, so that nothing is left if we are killed. Only to replace another
    file it needs one for the moment between two calls, since linkat(2) replaces nothing.
    """
    hidden = f".{name}.{os.getpid()}"
    fd, is_named = _new_file(place, hidden)
    try:
        os.write(fd, content)
        if not is_named and _link(fd, place, name):
            return
        if not is_named and not _link(fd, place, hidden):
            raise FileExistsError(errno.EEXIST, "")
        is_named = True
        os.rename(hidden, name, src_dir_fd=place.fd, dst_dir_fd=place.fd)
        is_named = False
    finally:
        if is_named:
            os.unlink(hidden, dir_fd=place.fd)
        os.close(fd)


def _new_file(place: Directory, hidden: str) -> tuple[int, bool]:
    """(descriptor, whether it is named) of a new file, hidden where each must have a name."""
    flags = os.O_WRONLY | os.O_CLOEXEC
    try:
        return os.open(".", flags | os.O_TMPFILE, 0o644, dir_fd=place.fd), False
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
    # O_EXCL: in a directory like /tmp others could have created a link
    return os.open(hidden, flags | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=place.fd), True


def _link(fd: int, place: Directory, name: str) -> bool:
    """Give a file a name; False if there is one with that name. open(2), O_TMPFILE."""
    try:
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=place.fd)
    except FileExistsError:
        return False
    return True


def _open_namespace(kind: int, path: str) -> int:
    """A descriptor of a namespace of this kind. Raises KernelError or StateError otherwise."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO would block
    except OSError as error:
        raise KernelError.of("open", error.errno or 0, path) from None
    try:
        found = calls.namespace_type(fd)
    except KernelError:
        found = 0
    if found != kind:
        os.close(fd)
        raise StateError(
            f"is not a namespace of type {FILES[kind]}",
            at=path,
            remedy="name a file of /proc/PID/ns of that type, or a bind mount of one",
        )
    return fd


def _refuse_own(kind: int, path: str, changed: str) -> None:
    """Raises StateError for this process's own namespace: the change would apply to the host."""
    if os.path.samefile(path, f"/proc/self/ns/{FILES[kind]}"):
        raise StateError(
            f"is the host's own {FILES[kind]} namespace, which {changed} would change",
            at=path,
            remedy="use a new namespace, or remove that setting",
        )


def _write(path: str, text: str, at: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError.of(f"write {path}", error.errno or 0, f"{at} = {text}") from None
