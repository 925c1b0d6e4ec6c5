"""From the runtime's process to the container's: names, kernel parameters, terminal, identity."""

from __future__ import annotations

import _stat as stat
import errno

from .. import os
from ..errors import KernelError, StepError, reason
from ..kernel import calls, net
from ..kernel import const as c
from ..kernel.mounts import Tree
from ..kernel.root import Root
from ..wire import sync

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan import steps
    from .box import Box


_FAILED = 255
_MEMORY = frozenset(("RLIMIT_AS", "RLIMIT_DATA"))
_ROOM = 1 << 18  # bytes


# --- namespaces ----------------------------------------------------------------------------------


def join_namespaces(step: steps.JoinNamespaces, box: Box) -> None:
    """Enter what the parent opened."""
    for kind in step.kinds:
        calls.setns(box.namespaces[kind], kind)


def join_process(step: steps.JoinProcess, box: Box) -> None:
    """
    Enter all namespaces of a container at once; its root is then this process's.

    Into a pid namespace come only children. So this process, which nobody inside can see, lets go
    of all that is the host's, makes one and ends: what they see of that, whatever capabilities they
    have, is as much inside as they are (CVE-2016-9962).
    """
    calls.erase_command_line()
    if step.flags:
        calls.setns(box.target, step.flags)
    box.root = Root(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    box.close_others()
    if step.flags & c.CLONE_NEWPID:
        _go_on_inside(box.parent)


def _go_on_inside(parent: sync.Channel) -> None:
    """
    Go on as a child, once the parent knows it: only from here does the parent learn its pid.

    It waits at a pipe for us to have told, else nobody would ever end it should we be killed.
    """
    told, tell = os.pipe2(os.O_CLOEXEC)
    pid, _ = calls.clone3(c.CLONE_PARENT)
    if pid:
        sync.report_born(parent, pid)
        os.write(tell, b".")
        os._exit(0)
    os.close(tell)
    if not os.read(told, 1) or not sync.wait_for_go(parent):
        os._exit(_FAILED)
    os.close(told)


def unshare(step: steps.Unshare, box: Box) -> None:
    """Make namespaces from within."""
    calls.unshare(step.flags)


def raise_loopback(step: steps.RaiseLoopback, box: Box) -> None:
    """Bring `lo` up, or enter the namespace in which that was done ahead of time."""
    if box.network >= 0:
        calls.setns(box.network, c.CLONE_NEWNET)
    else:
        net.loopback_up()


def set_hostname(step: steps.SetHostname, box: Box) -> None:
    """Name the UTS namespace."""
    if step.hostname:
        calls.sethostname(step.hostname)
    if step.domainname:
        calls.setdomainname(step.domainname)


def write_sysctls(step: steps.WriteSysctls, box: Box) -> None:
    """Set kernel parameters through a /proc that nobody else can mount over (CVE-2025-52881)."""
    proc = Root(Tree.new("proc").fd)
    for name, value, at in step.settings:
        try:
            file = proc.open(f"sys/{name}", os.O_WRONLY)
            os.write(file, value.encode())
            os.close(file)
        except (KernelError, OSError) as error:
            number = error.errno or 0
            why = f"is refused by the kernel: {reason(number)}"
            raise StepError(why, at=at, value=repr(value), errno=number) from None
    os.close(proc.fd)  # no masked path is masked there


# --- terminal and session ------------------------------------------------------------------------


def open_terminal(step: steps.OpenTerminal, box: Box) -> None:
    """Open a terminal, send its master to who asked, make it this process's own."""
    from ..kernel import sockets, tty  # loaded by the parent

    master, slave = tty.open_pair(box.inside)
    if step.rows or step.columns:
        tty.set_size(master, step.rows, step.columns)
    if step.plain:
        tty.keep_newlines(slave)
    _own_terminal(slave, step.uid)
    if step.mount:
        place = box.inside.open("/dev/console")
        Tree.clone(slave, at="/dev/console").attach(place, "/dev/console")
    sockets.send(box.console, master, b"/dev/ptmx")
    os.setsid()
    tty.make_controlling(slave)
    os.close(master)


def _own_terminal(slave: int, uid: int) -> None:
    """Let the user open its terminal by name; where /dev/pts is a read-only path, root keeps it."""
    try:
        os.fchown(slave, uid, -1)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise


def start_session(step: steps.StartSession, box: Box) -> None:
    """Leave the caller's session, so that TIOCSTI cannot type into its terminal (CVE-2017-5226)."""
    if os.getsid(0) != os.getpid():
        os.setsid()
    os.umask(step.umask)


# --- scheduling ----------------------------------------------------------------------------------


def set_affinity(step: steps.SetAffinity, box: Box) -> None:
    """Run on these CPUs from now on."""
    calls.set_affinity(step.cpus, step.why)


def set_scheduler(step: steps.SetScheduler, box: Box) -> None:
    """CPU scheduling."""
    calls.sched_setattr(
        step.policy, step.flags, step.nice, step.priority, step.runtime, step.deadline, step.period
    )


def set_io_priority(step: steps.SetIoPriority, box: Box) -> None:
    """I/O scheduling."""
    calls.ioprio_set(step.priority)


def set_personality(step: steps.SetPersonality, box: Box) -> None:
    """The execution domain."""
    calls.personality(step.persona)


# --- identity ------------------------------------------------------------------------------------


def enter_directory(step: steps.EnterDirectory, box: Box) -> None:
    """
    Change to the working directory, made when missing, and see that it is inside.

    A descriptor of the host that leaked in would make /proc/self/fd/N a way out (CVE-2024-21626):
    the kernel then names a path that begins with "(unreachable)".
    """
    try:
        os.chdir(step.path)
    except FileNotFoundError:
        if not step.make:
            raise KernelError.of("chdir", errno.ENOENT, step.path) from None
        os.fchdir(box.inside.make_directory(step.path))
    except OSError as error:
        raise KernelError.of("chdir", error.errno or 0, step.path) from None
    check_directory(step.path)


def check_directory(path: str) -> None:
    """Raises StepError unless the working directory lies below the root."""
    if not calls.getcwd().startswith(b"/"):
        raise StepError("leads outside of the container", at="process.cwd", value=path)


def load_seccomp(step: steps.LoadSeccomp, box: Box) -> None:
    """Install the filter that the parent compiled."""
    calls.seccomp_filter(box.seccomp, step.flags)


def set_rlimits(step: steps.SetRlimits, box: Box) -> None:
    """Set this process's own limits: another's would need CAP_SYS_RESOURCE."""
    if not _MEMORY.isdisjoint(name for name, *_ in step.limits):
        _make_room(_ROOM + 4 * sum(map(len, box.env.values())))
    for name, number, soft, hard, at in step.limits:
        _limit(number, soft, hard, at, f"{name} {soft}:{hard}")


def raise_rlimits(step: steps.RaiseRlimits, box: Box) -> None:
    """Raise hard limits, where they are lower."""
    for name, number, hard, at in step.limits:
        soft, own = calls.own_limits(number)
        if own < hard:
            _limit(number, soft, hard, at, f"{name} {hard}")


def _limit(number: int, soft: int, hard: int, at: str, shown: str) -> None:
    try:
        calls.prlimit(0, number, soft, hard, at)
    except KernelError as error:
        error.fault.value = shown
        error.fault.remedy = "a hard limit can only be raised with CAP_SYS_RESOURCE"
        raise


def _make_room(size: int) -> None:
    """
    Let malloc(3) keep so much (bytes) for execve, which copies what it is given.

    A large piece that is freed raises what the heap takes and keeps from then on (mallopt(3),
    M_MMAP_THRESHOLD); small ones fill it.
    """
    bytes(size)
    [bytes(4000) for _ in range(size // 4000)]


def bound_capabilities(step: steps.BoundCapabilities, box: Box) -> None:
    """Drop what is not kept."""
    calls.drop_from_bounding_set(
        [capability for capability in range(step.last + 1) if not step.keep >> capability & 1]
    )


def take_user(step: steps.TakeUser, box: Box) -> None:
    """Become the user, keeping the permitted capabilities until they are set."""
    _own_streams(step.uid, step.takes_files)
    calls.prctl(c.PR_SET_KEEPCAPS, 1, name="PR_SET_KEEPCAPS")
    os.setgroups(step.groups)
    os.setresgid(step.gid, step.gid, step.gid)
    os.setresuid(step.uid, step.uid, step.uid)
    # with fs.suid_dumpable the new uid could look in: proc_sys_fs(5)
    calls.prctl(c.PR_SET_DUMPABLE, 0, name="PR_SET_DUMPABLE")


def _own_streams(uid: int, takes_files: bool) -> None:
    """
    Let the user open /dev/stdin and the like again, which need the file's permission.

    What is close-on-exec is a file of ours in the place of a stream that the caller had closed.
    A device stays its owner's: the container's user could read the caller's terminal afterwards.
    So does a file that was not made for the container: the user could write to what the caller had
    opened to be read, and keep it.
    """
    wanted = (stat.S_IFIFO, stat.S_IFSOCK, *((stat.S_IFREG,) if takes_files else ()))
    for stream in (0, 1, 2):
        try:
            if not os.get_inheritable(stream):
                continue
            found = os.fstat(stream)
            if found.st_uid != uid and stat.S_IFMT(found.st_mode) in wanted:
                os.fchown(stream, uid, -1)
        except OSError as error:
            # closed, or on a file system that has no owners or is read-only: then it stays
            if error.errno not in (errno.EBADF, errno.EINVAL, errno.EPERM, errno.EROFS):
                raise


def set_capabilities(step: steps.SetCapabilities, box: Box) -> None:
    """Set the four sets; ambient ones must be permitted and inheritable already."""
    calls.capset(step.effective, step.permitted, step.inheritable)
    calls.prctl(c.PR_CAP_AMBIENT, c.PR_CAP_AMBIENT_CLEAR_ALL, name="PR_CAP_AMBIENT_CLEAR_ALL")
    for capability in range(64):
        if step.ambient >> capability & 1:
            calls.prctl(
                c.PR_CAP_AMBIENT, c.PR_CAP_AMBIENT_RAISE, capability, name="PR_CAP_AMBIENT_RAISE"
            )


def no_new_privileges(step: steps.NoNewPrivileges, box: Box) -> None:
    """Set no_new_privs, which nothing can unset."""
    calls.prctl(c.PR_SET_NO_NEW_PRIVS, 1, name="PR_SET_NO_NEW_PRIVS")
