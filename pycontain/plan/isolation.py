"""
What a program runs in: a container's namespaces alone, or a virtual machine inside them.

Everything up to the last step is the same. With `kvm` and `emulate` that step is RunInVm in place
of Execute: the child becomes the monitor, and what the configuration says holds the monitor. What
cannot be the same is refused here; docs/isolation.md lists the rest.
"""

from __future__ import annotations

from ..errors import PycontainError, SpecError, UsageError
from ..spec.annotations import ISOLATION
from .process import allows
from .steps.child import Execute
from .steps.vm import LoadMonitor, RunInVm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..spec.records import Linux, Process, Spec
    from . import steps
    from .request import ProcessRequest
    from .seccomp import Profile

ENGINES = ("kvm", "emulate")
_MEMORY = 512 << 20  # bytes, without a limit
_PAGE = 4096
_CLONE_FLAGS = 0x120_0011  # of fork(3): CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID, SIGCHLD

# What every monitor calls, in order to become one and then for its program's first steps. Its own
# filter allows more (vm/jail.py), for what programs may ask for.
MONITOR_CALLS = """
    access brk capset clock_gettime clone close close_range dup exit_group fcntl fstat fstatfs
    ftruncate futex getcwd getgid getgroups getpid getrandom gettid getuid ioctl kill lseek
    madvise memfd_create mmap mprotect munmap newfstatat openat openat2 poll ppoll prctl pread64
    preadv preadv2 prlimit64 read readv rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn
    rt_sigtimedwait sched_getaffinity seccomp signalfd4 statx sysinfo tgkill timer_create
    timer_delete timer_settime umask uname write writev
"""


def of(request: ProcessRequest, annotations: Mapping[str, str]) -> str:
    """
    "kvm" or "emulate", or "" for namespaces alone: as requested, or else as the annotation says.

    Raises UsageError or SpecError for anything else.
    """
    wanted = request.isolation or annotations.get(ISOLATION, "")
    if wanted in ("", "namespaces"):
        return ""
    if wanted in ENGINES:
        return wanted
    why = "is not namespaces, kvm or emulate"
    if request.isolation:
        raise UsageError(why, at="--isolation", value=repr(wanted))
    raise SpecError(why, at=f"annotations[{ISOLATION}]", value=repr(wanted))


def monitor_step(engine: str) -> steps.Step:
    """The parent's step, before the child exists."""
    return LoadMonitor(engine=engine, why=f"isolation {engine}")


def last_step(execute: steps.Step, engine: str, linux: Linux) -> steps.Step:
    """The child's last step in place of execve. A limit of the memory counts what is used."""
    limits = linux.resources.memory if linux.resources else None
    limit = limits.limit if limits and limits.limit and limits.limit > 0 else 0
    memory = limit // _PAGE * _PAGE or _MEMORY
    assert isinstance(execute, Execute)
    return RunInVm(
        args=execute.args, env=execute.env, engine=engine, memory=memory, why=execute.why
    )


def check(process: Process, linux: Linux, request: ProcessRequest, profile: Profile | None) -> None:
    """Raises SpecError or UsageError for what a program in a virtual machine cannot have."""
    if request.preserve_fds:
        raise _refused(
            UsageError, "--preserve-fds", "descriptors are passed only to programs of this kernel"
        )
    if process.apparmorProfile or process.selinuxLabel:
        at = "apparmorProfile" if process.apparmorProfile else "selinuxLabel"
        raise _refused(SpecError, f"process.{at}", "it takes effect at execve, which is not called")
    if linux.personality is not None:
        raise _refused(SpecError, "linux.personality", "execution domains are this kernel's")
    if profile is not None:
        _check_filter(profile)


def check_container(spec: Spec, notify: str) -> None:
    """As check(), for what concerns a whole container."""
    if notify:
        raise _refused(UsageError, "NOTIFY_SOCKET", "the program cannot connect to it")
    kinds = {mount.destination: mount.type for mount in spec.mounts}
    if kinds.get("/proc") != "proc":
        raise SpecError(
            "need a file system proc at /proc, by which the monitor reopens files", at="mounts",
            remedy='add {"destination": "/proc", "type": "proc", "source": "proc"}',
        )  # fmt: skip
    namespaces = spec.linux.namespaces if spec.linux else ()
    if not any(each.type == "mount" for each in namespaces):
        raise SpecError(
            "needs a mount namespace for a program in a virtual machine",
            at="linux.namespaces", remedy='add {"type": "mount"}',
        )  # fmt: skip


def _check_filter(profile: Profile) -> None:
    if profile.listener:
        why = "an agent would be asked about calls of the monitor, not of the program"
        raise _refused(SpecError, "linux.seccomp.listenerPath", why)
    missing = [
        name
        for name in MONITOR_CALLS.split()
        if not allows(profile, name, _CLONE_FLAGS if name == "clone" else None)
    ]
    if missing:
        raise SpecError(
            f"does not allow what the monitor of a virtual machine calls: {', '.join(missing)}",
            at="linux.seccomp", remedy="allow these, or use --isolation namespaces",
        )  # fmt: skip


def _refused(kind: type[PycontainError], at: str, why: str) -> PycontainError:
    return kind(
        f"cannot be had in a virtual machine: {why}", at=at,
        remedy="remove it, or use --isolation namespaces",
    )  # fmt: skip
