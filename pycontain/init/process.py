"""The child becomes the container's process: names, kernel parameters, session, identity."""

from __future__ import annotations

import _stat as stat
import errno

from ..errors import KernelError, StepError, reason
from ..kernel import calls, net
from ..kernel import const as c
from ..kernel.mounts import Tree
from ..kernel.root import Root
from ..lean import os
from ..plan import steps
from ..plan.walk import child_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context


_MEMORY = frozenset(("RLIMIT_AS", "RLIMIT_DATA"))
_ROOM = 1 << 18  # bytes


# --- namespaces ----------------------------------------------------------------------------------


@child_step(steps.Unshare)
def unshare(step: steps.Unshare, context: Context) -> None:
    """Create namespaces that contain this process. unshare(2)."""
    calls.unshare(step.flags)


@child_step(steps.RaiseLoopback)
def raise_loopback(step: steps.RaiseLoopback, context: Context) -> None:
    """Bring `lo` up, or enter a namespace in which it was brought up ahead of time."""
    if context.network >= 0:
        calls.setns(context.network, c.CLONE_NEWNET)
    else:
        net.loopback_up()


@child_step(steps.SetHostname)
def set_hostname(step: steps.SetHostname, context: Context) -> None:
    """Set the host and domain name of the UTS namespace."""
    if step.hostname:
        calls.sethostname(step.hostname)
    if step.domainname:
        calls.setdomainname(step.domainname)


@child_step(steps.WriteSysctls)
def write_sysctls(step: steps.WriteSysctls, context: Context) -> None:
    """Set kernel parameters through a private /proc, that nobody mounts over (CVE-2025-52881)."""
    proc = Root(private_proc())
    for name, value, at in step.settings:
        try:
            file = proc.open(f"sys/{name}", os.O_WRONLY)
            os.write(file, value.encode())
            os.close(file)
        except (KernelError, OSError) as error:
            number = error.errno or 0
            why = f"is refused by the kernel: {reason(number)}"
            raise StepError(why, at=at, value=repr(value), errno=number) from None
    os.close(proc.fd)  # masked paths are visible in it


def private_proc() -> int:
    """
    A proc file system that only this process has.

    In a user namespace that does not own the pid namespace, none can be created: then it is the
    host's, which is still mounted at /proc here.
    """
    try:
        return Tree.new("proc").fd
    except KernelError as error:
        if error.errno != errno.EPERM:
            raise
    hosts = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if calls.filesystem_type(hosts) != c.PROC_SUPER_MAGIC:
        raise StepError("is not a proc file system", at="/proc")
    return hosts


# --- session -------------------------------------------------------------------------------------


@child_step(steps.StartSession)
def start_session(step: steps.StartSession, context: Context) -> None:
    """Leave the caller's session, so that TIOCSTI cannot type into its terminal (CVE-2017-5226)."""
    if os.getsid(0) != os.getpid():
        os.setsid()
    os.umask(step.umask)


# --- identity ------------------------------------------------------------------------------------


@child_step(steps.EnterDirectory)
def enter_directory(step: steps.EnterDirectory, context: Context) -> None:
    """
    Change to the working directory, created if missing, and check that it is inside the root.

    With a leaked descriptor of the host, /proc/self/fd/N would lead outside (CVE-2024-21626): the
    kernel then returns a path that begins with "(unreachable)".
    """
    try:
        os.chdir(step.path)
    except FileNotFoundError:
        if not step.make:
            raise KernelError.of("chdir", errno.ENOENT, step.path) from None
        if context.shares_root:
            why = "does not exist, and would be created on the host, whose root this is"
            raise StepError(why, at="process.cwd", value=step.path) from None
        os.fchdir(context.inside.make_directory(step.path))
    except OSError as error:
        raise KernelError.of("chdir", error.errno or 0, step.path) from None
    check_directory(step.path)


def check_directory(path: str) -> None:
    """Raises StepError unless the working directory lies below the root."""
    if not calls.getcwd().startswith(b"/"):
        raise StepError("leads outside of the container", at="process.cwd", value=path)


@child_step(steps.LoadSeccomp)
def load_seccomp(step: steps.LoadSeccomp, context: Context) -> None:
    """Install the filter that the parent compiled; the descriptor of its listener is kept."""
    context.listener = calls.seccomp_filter(context.seccomp, step.flags)


@child_step(steps.SetRlimits)
def set_rlimits(step: steps.SetRlimits, context: Context) -> None:
    """Set this process's own limits: another's would need CAP_SYS_RESOURCE."""
    if not _MEMORY.isdisjoint(name for name, *_ in step.limits):
        _make_room(_ROOM + 4 * sum(map(len, context.env.values())))
    for name, number, soft, hard, at in step.limits:
        _limit(number, soft, hard, at, f"{name} {soft}:{hard}")


@child_step(steps.RaiseRlimits)
def raise_rlimits(step: steps.RaiseRlimits, context: Context) -> None:
    """Raise hard limits, where they are lower."""
    for limit in step.limits:
        raise_limit(0, limit)


def raise_limit(pid: int, limit: tuple[str, int, int, str]) -> None:
    """Raise a hard limit of a process (0 is this one) to (name, number, hard, JSON path)."""
    name, number, hard, at = limit
    soft, own = calls.limits_of(pid, number)
    if own < hard:
        _limit(number, soft, hard, at, f"{name} {hard}", pid)


def _limit(number: int, soft: int, hard: int, at: str, shown: str, pid: int = 0) -> None:
    try:
        calls.prlimit(pid, number, soft, hard, at)
    except KernelError as error:
        error.fault.value = shown
        error.fault.remedy = "a hard limit can only be raised with CAP_SYS_RESOURCE"
        raise


def _make_room(size: int) -> None:
    """
    Make malloc(3) keep this many bytes for execve, which copies its arguments.

    Freeing a large block raises the size that the heap serves and keeps from then on (mallopt(3),
    M_MMAP_THRESHOLD); small blocks then fill it.
    """
    bytes(size)
    [bytes(4000) for _ in range(size // 4000)]


@child_step(steps.BoundCapabilities)
def bound_capabilities(step: steps.BoundCapabilities, context: Context) -> None:
    """Drop all but the given capabilities from the bounding set."""
    calls.drop_from_bounding_set(
        [capability for capability in range(step.last + 1) if not step.keep >> capability & 1]
    )


@child_step(steps.TakeUser)
def take_user(step: steps.TakeUser, context: Context) -> None:
    """Become the user; the permitted capabilities are kept until the sets are set."""
    give_streams(step.uid, step.takes_files)
    calls.prctl(c.PR_SET_KEEPCAPS, 1, name="PR_SET_KEEPCAPS")
    calls.set_identity(step.uid, step.gid, step.groups)
    # with fs.suid_dumpable the new uid could inspect this process: proc_sys_fs(5)
    calls.prctl(c.PR_SET_DUMPABLE, 0, name="PR_SET_DUMPABLE")


def give_streams(uid: int, takes_files: bool) -> None:
    """
    Let the user reopen /dev/stdin and the like, which needs permission on the file.

    A close-on-exec descriptor is a file of ours, in place of a stream that the caller had closed.
    Devices keep their owner: otherwise the container's user could later read the caller's terminal.
    So do files that were not created for the container: otherwise the user could write to a file
    that the caller had opened for reading only, and would own it for good.
    """
    kinds = (stat.S_IFIFO, stat.S_IFSOCK, *((stat.S_IFREG,) if takes_files else ()))
    for stream in (0, 1, 2):
        try:
            if not os.get_inheritable(stream):
                continue
            status = os.fstat(stream)
            if status.st_uid != uid and stat.S_IFMT(status.st_mode) in kinds:
                os.fchown(stream, uid, -1)
        except OSError as error:
            # closed, or on a file system without owners or read-only: leave it unchanged
            if error.errno not in (errno.EBADF, errno.EINVAL, errno.EPERM, errno.EROFS):
                raise


@child_step(steps.SetCapabilities)
def set_capabilities(step: steps.SetCapabilities, context: Context) -> None:
    """Set the four sets; ambient ones must be permitted and inheritable already."""
    calls.capset(step.effective, step.permitted, step.inheritable)
    calls.prctl(c.PR_CAP_AMBIENT, c.PR_CAP_AMBIENT_CLEAR_ALL, name="PR_CAP_AMBIENT_CLEAR_ALL")
    for capability in range(64):
        if step.ambient >> capability & 1:
            calls.prctl(
                c.PR_CAP_AMBIENT, c.PR_CAP_AMBIENT_RAISE, capability, name="PR_CAP_AMBIENT_RAISE"
            )


@child_step(steps.NoNewPrivileges)
def no_new_privileges(step: steps.NoNewPrivileges, context: Context) -> None:
    """Set no_new_privs, which nothing can unset."""
    calls.prctl(c.PR_SET_NO_NEW_PRIVS, 1, name="PR_SET_NO_NEW_PRIVS")
