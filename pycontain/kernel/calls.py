"""
One function per system call. Each raises KernelError, which names the call and the file.

Every function is looked up when this module is imported: after a pivot the dynamic loader would
search the container.
"""

from __future__ import annotations

import _signal
import errno

from ..errors import KernelError
from ..lean import os
from . import const as c
from ._ffi import ffi
from .files import read_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

lib = ffi.dlopen(None)


def _shape(signature: str) -> Callable[..., Any]:
    """syscall(2) with the argument types of one call."""
    return ffi.cast(signature, ffi.addressof(lib, "syscall"))  # type: ignore[no-any-return]


_clone3 = _shape("long(*)(long, struct clone_args *, size_t)")
_clone = _shape("long(*)(long, unsigned long, long, long, long, long)")
_openat2 = _shape("long(*)(long, int, const char *, struct open_how *, size_t)")
_open_tree = _shape("long(*)(long, int, const char *, unsigned int)")
_move_mount = _shape("long(*)(long, int, const char *, int, const char *, unsigned int)")
_fsopen = _shape("long(*)(long, const char *, unsigned int)")
_fsconfig = _shape("long(*)(long, int, unsigned int, const char *, const char *, int)")
_fsmount = _shape("long(*)(long, int, unsigned int, unsigned int)")
_fspick = _shape("long(*)(long, int, const char *, unsigned int)")
_mount_setattr = _shape(
    "long(*)(long, int, const char *, unsigned int, struct mount_attr *, size_t)"
)
_getcwd = _shape("long(*)(long, char *, unsigned long)")
_rt_sigaction = _shape("long(*)(long, int, const void *, void *, size_t)")
_pivot_root = _shape("long(*)(long, const char *, const char *)")
_close_range = _shape("long(*)(long, unsigned int, unsigned int, unsigned int)")
_pidfd_send_signal = _shape("long(*)(long, int, int, void *, unsigned int)")
_pidfd_getfd = _shape("long(*)(long, int, int, unsigned int)")
_seccomp = _shape("long(*)(long, unsigned int, unsigned int, void *)")
_bpf = _shape("long(*)(long, int, void *, unsigned int)")
_statx = _shape("long(*)(long, int, const char *, int, unsigned int, void *)")
_ioprio_set = _shape("long(*)(long, int, int, int)")
_sched_setattr = _shape("long(*)(long, int, struct sched_attr *, unsigned int)")
_setgroups = _shape("long(*)(long, int, const unsigned int *)")
_setresid = _shape("long(*)(long, unsigned int, unsigned int, unsigned int)")
_keyctl = _shape("long(*)(long, int, const char *)")
_unshare, _setns, _umount2, _prctl, _ioctl, _socket, _flock, _signalfd = (
    lib.unshare, lib.setns, lib.umount2, lib.prctl, lib.ioctl, lib.socket, lib.flock, lib.signalfd,
)  # fmt: skip
_sethostname, _setdomainname = lib.sethostname, lib.setdomainname
_personality, _prlimit, _fstatfs = lib.personality, lib.prlimit, lib.fstatfs
_capset, _mount = lib.capset, lib.mount


# each struct open_how used so far: a container's root takes some fifty calls
_open_hows: dict[tuple[int, int, int], object] = {}
_OPEN_HOW_SIZE = ffi.sizeof("struct open_how")
_RESOLUTIONS = 128  # as in libpathrs


def _checked(result: int, call: str, at: str | bytes = "") -> int:
    if result < 0:
        raise KernelError.of(call, ffi.errno, os.fsdecode(at))
    return result


# --- processes ---------------------------------------------------------------------------------


def clone3(flags: int, cgroup: int = -1) -> tuple[int, int]:
    """
    Fork with new namespaces; returns (pid, pidfd) in the parent and (0, -1) in the child.

    `cgroup` is a descriptor of the cgroup that the child starts in (5.7). With CLONE_PARENT the
    child is a sibling, and its exit signal is the caller's own. clone(2).
    """
    pidfd = ffi.new("int *", -1)
    arguments = clone_arguments(flags, cgroup, pidfd)
    pid = _checked(_clone3(c.SYS_clone3, arguments, ffi.sizeof("struct clone_args")), "clone3")
    return pid, pidfd[0] if pid else -1


def fork_sibling() -> int:
    """
    Fork a child of this process's parent; returns its pid, or 0 in it.

    With clone(2) itself: filters know nothing of what clone3(2) is given, and often refuse it.
    """
    return _checked(_clone(c.SYS_clone, c.CLONE_PARENT, 0, 0, 0, 0), "clone")


def clone_arguments(flags: int, cgroup: int, pidfd: Any) -> Any:
    """A struct clone_args; the kernel writes to pidfd, an `int *`. clone(2)."""
    arguments = ffi.new("struct clone_args *")
    arguments.flags = flags | c.CLONE_PIDFD | (c.CLONE_INTO_CGROUP if cgroup >= 0 else 0)
    arguments.pidfd = int(ffi.cast("uintptr_t", pidfd))
    arguments.exit_signal = 0 if flags & c.CLONE_PARENT else 17  # SIGCHLD
    arguments.cgroup = max(cgroup, 0)
    return arguments


def unshare(flags: int) -> None:
    """Leave shared namespaces for new ones. unshare(2)."""
    _checked(_unshare(flags), "unshare")


def setns(fd: int, kind: int, at: str = "") -> None:
    """Join a namespace by its descriptor, or several of a process by its pidfd (5.8). setns(2)."""
    _checked(_setns(fd, kind), "setns", at)


def namespace_type(fd: int) -> int:
    """The CLONE_NEW* flag of a namespace that fd is open on. ioctl_ns(2)."""
    return ioctl(fd, c.NS_GET_NSTYPE, 0, "NS_GET_NSTYPE")


def descriptor_of(pidfd: int, fd: int) -> int:
    """A duplicate of a descriptor of another process (5.6). pidfd_getfd(2)."""
    return _checked(_pidfd_getfd(c.SYS_pidfd_getfd, pidfd, fd, 0), "pidfd_getfd")


def send_signal(pidfd: int, number: int) -> None:
    """Signal the process behind a pidfd. pidfd_send_signal(2)."""
    _checked(
        _pidfd_send_signal(c.SYS_pidfd_send_signal, pidfd, number, ffi.NULL, 0),
        "pidfd_send_signal",
    )


def signal_descriptor(signals: Iterable[int] = range(1, 65)) -> int:
    """A descriptor to read these signals from, as far as they are blocked. signalfd(2)."""
    mask = sum(1 << number - 1 for number in signals).to_bytes(128, "little")  # sigset_t
    return _checked(_signalfd(-1, mask, os.O_CLOEXEC), "signalfd")


def close_range(first: int, last: int = 0xFFFF_FFFF, *, on_exec: bool = False) -> None:
    """Close the descriptors from first to last, now or at execve. close_range(2)."""
    flags = c.CLOSE_RANGE_CLOEXEC if on_exec else 0
    _checked(_close_range(c.SYS_close_range, first, last, flags), "close_range")


def default_signals() -> None:
    """
    Reset every signal to its default disposition.

    Python ignores SIGPIPE and SIGXFSZ, and an ignored signal stays ignored across execve. The C
    library's own function would leave out signals 32 and 33, which it reserves; Python returns
    None for them. rt_sigaction(2).
    """
    default = ffi.new("char[32]")  # struct sigaction of the kernel: SIG_DFL is 0
    for number in range(1, 65):
        if _signal.getsignal(number) != _signal.SIG_DFL:
            _rt_sigaction(c.SYS_rt_sigaction, number, default, ffi.NULL, 8)


def erase_command_line() -> None:
    """
    Overwrite this process's command line and initial environment, as shown in /proc/PID.

    Anyone can read the command line, which can contain secrets (exec --env). proc(5),
    /proc/PID/stat.
    """
    stat = read_bytes("/proc/self/stat").rpartition(b")")[2].split()
    begin, _, _, end = (int(field) for field in stat[45:49])  # arg_start to env_end
    ffi.memmove(ffi.cast("char *", begin), bytes(end - begin), end - begin)


# --- files -------------------------------------------------------------------------------------


def openat2(dirfd: int, path: str | bytes, flags: int, resolve: int, mode: int = 0) -> int:
    """Open a file under rules of resolution; always close-on-exec. openat2(2)."""
    fd = try_openat2(dirfd, path, flags, resolve, mode)
    if fd < 0:
        raise openat2_error(-fd, os.fsdecode(path))
    return fd


def openat2_error(number: int, at: str) -> KernelError:
    """The error of openat2 on this file."""
    error = KernelError.of("openat2", number, at)
    if number == errno.EAGAIN:
        error.fault.why = "keeps changing: files are constantly being renamed or mounted"
    return error


def try_openat2(dirfd: int, path: str | bytes, flags: int, resolve: int, mode: int = 0) -> int:
    """
    As openat2, but returns -errno instead of raising: a missing file is often expected.

    A rename or mount anywhere on the host during the resolution of `..` means that it must be
    repeated; an image with links of thousands of `..` could make that go on forever.
    """
    how = _open_hows.get((flags, mode, resolve))
    if how is None:
        how = ffi.new("struct open_how *", (flags | os.O_CLOEXEC, mode, resolve))
        _open_hows[flags, mode, resolve] = how
    name = os.fsencode(path)
    for _ in range(_RESOLUTIONS):
        fd = int(_openat2(c.SYS_openat2, dirfd, name, how, _OPEN_HOW_SIZE))
        if fd >= 0:
            return fd
        if ffi.errno != errno.EAGAIN:
            return -int(ffi.errno)
    return -errno.EAGAIN


def lock(fd: int) -> None:
    """Wait for the exclusive lock of an open file; `descriptors.release_lock` ends it. flock(2)."""
    lock_ex = 2
    while _flock(fd, lock_ex) < 0:
        if ffi.errno != errno.EINTR:
            raise KernelError.of("flock", ffi.errno)


def filesystem_type(fd: int) -> int:
    """The magic number of the file system a descriptor is on. fstatfs(2)."""
    buffer = ffi.new("long[32]")  # struct statfs, which begins with f_type
    _checked(_fstatfs(fd, buffer), "fstatfs")
    return int(buffer[0])


def mount_id(fd: int) -> int:
    """The id of the mount that a descriptor is on, as in mountinfo (5.8). statx(2)."""
    buffer = ffi.new("unsigned long[32]")  # struct statx, with stx_mnt_id at byte 144
    _checked(_statx(c.SYS_statx, fd, b"", c.AT_EMPTY_PATH, c.STATX_MNT_ID, buffer), "statx")
    return int(buffer[18])


def getcwd() -> bytes:
    """
    The working directory as the kernel names it: outside the root, "(unreachable)/...".

    The C library hides that: it walks up until it reaches the inode of the root, which is the same
    in the host's view of a rootfs as in the container's. getcwd(2), getcwd(3).
    """
    path_max = 4096
    buffer = ffi.new("char[]", path_max)
    length = _checked(_getcwd(c.SYS_getcwd, buffer, path_max), "getcwd")
    return bytes(ffi.buffer(buffer, length - 1))


def ioctl(fd: int, request: int, argument: object, name: str) -> int:
    """ioctl(2); argument is cdata or an integer, name is the request's, for the error."""
    if isinstance(argument, int):
        argument = ffi.cast("void *", argument)
    return _checked(_ioctl(fd, request, argument), f"ioctl {name}")


def socket(domain: int, kind: int) -> int:
    """An unconnected socket. socket(2)."""
    return _checked(_socket(domain, kind, 0), "socket")


# --- mounts ------------------------------------------------------------------------------------


def open_tree(dirfd: int, path: str | bytes, flags: int) -> int:
    """A descriptor of a mount, or with OPEN_TREE_CLONE of a detached copy. open_tree(2)."""
    flags |= c.OPEN_TREE_CLOEXEC
    return _checked(_open_tree(c.SYS_open_tree, dirfd, os.fsencode(path), flags), "open_tree", path)


def move_mount(source: int, target: int, at: str = "") -> None:
    """Attach a detached mount on the file that target is open on. move_mount(2)."""
    flags = c.MOVE_MOUNT_F_EMPTY_PATH | c.MOVE_MOUNT_T_EMPTY_PATH
    _checked(_move_mount(c.SYS_move_mount, source, b"", target, b"", flags), "move_mount", at)


def fsopen(kind: str) -> int:
    """A context for a new file system of this type. fsopen(2)."""
    return _checked(_fsopen(c.SYS_fsopen, kind.encode(), c.FSOPEN_CLOEXEC), "fsopen", kind)


def fspick(fd: int) -> int:
    """A context for changing the file system mounted at fd. fspick(2)."""
    flags = c.FSPICK_CLOEXEC | c.FSPICK_EMPTY_PATH
    return _checked(_fspick(c.SYS_fspick, fd, b"", flags), "fspick")


def fsconfig(
    fd: int, command: int, key: str = "", value: str | None = None, other: int = 0
) -> None:
    """
    Set one option of a file system context, or act on it. fsconfig(2).

    other  a descriptor that is the option's value
    """
    name = key.encode() if key else ffi.NULL
    text = ffi.NULL if value is None else os.fsencode(value)
    shown = key if value is None else f"{key}={value}"
    _checked(_fsconfig(c.SYS_fsconfig, fd, command, name, text, other), "fsconfig", shown)


def fsmount(fd: int, attributes: int) -> int:
    """A detached mount of a created file system context. fsmount(2)."""
    return _checked(_fsmount(c.SYS_fsmount, fd, c.FSMOUNT_CLOEXEC, attributes), "fsmount")


def mount_setattr(
    fd: int,
    *,
    set: int = 0,
    clear: int = 0,
    propagation: int = 0,
    recursive: bool = False,
    user: int = 0,
) -> None:
    """
    Change the attributes of the mount that fd is the root of. mount_setattr(2).

    user  a descriptor of the user namespace for MOUNT_ATTR_IDMAP
    """
    attributes = ffi.new("struct mount_attr *", (set, clear, propagation, user))
    flags = c.AT_EMPTY_PATH | (c.AT_RECURSIVE if recursive else 0)
    size = ffi.sizeof("struct mount_attr")
    _checked(_mount_setattr(c.SYS_mount_setattr, fd, b"", flags, attributes, size), "mount_setattr")


def mount(source: str, target: str, kind: str, data: str, at: str) -> None:
    """Create and attach a file system in one call; `at` is the target for the error. mount(2)."""
    texts = [os.fsencode(text) for text in (source, target, kind, data)]
    _checked(
        _mount(texts[0], texts[1], texts[2], 0, ffi.from_buffer(texts[3] + b"\0")), "mount", at
    )


def pivot_root(new: bytes, old: bytes) -> None:
    """Swap the root mount. pivot_root(2)."""
    _checked(_pivot_root(c.SYS_pivot_root, new, old), "pivot_root", new)


def umount2(target: str | bytes, flags: int = 0) -> None:
    """Unmount. umount2(2)."""
    _checked(_umount2(os.fsencode(target), flags), "umount2", target)


# --- identity ----------------------------------------------------------------------------------


def sethostname(name: str) -> None:
    """Set the host name of the UTS namespace. sethostname(2)."""
    _checked(_sethostname(name.encode(), len(name.encode())), "sethostname", name)


def setdomainname(name: str) -> None:
    """Set the NIS domain name of the UTS namespace. setdomainname(2)."""
    _checked(_setdomainname(name.encode(), len(name.encode())), "setdomainname", name)


def personality(persona: int) -> None:
    """Set the execution domain. personality(2)."""
    _checked(_personality(persona), "personality")


def set_identity(uid: int, gid: int, groups: tuple[int, ...] | None) -> None:
    """
    Set this process's groups, unless None, gid and uid. setgroups(2), setresgid(2), setresuid(2).

    Not through the C library, which would have all threads do the same: in a child of vfork those
    that it knows of are its parent's. nptl(7)
    """
    if groups is not None:
        array = ffi.new("unsigned[]", groups)
        _checked(_setgroups(c.SYS_setgroups, len(groups), array), "setgroups")
    _checked(_setresid(c.SYS_setresgid, gid, gid, gid), "setresgid")
    _checked(_setresid(c.SYS_setresuid, uid, uid, uid), "setresuid")


def prctl(option: int, a: int = 0, b: int = 0, *, name: str) -> int:
    """prctl(2); name is the option's, for the error."""
    return _checked(_prctl(option, a, b, 0, 0), f"prctl {name}")


def drop_from_bounding_set(capabilities: Iterable[int]) -> None:
    """Drop capabilities, by number, from the bounding set. PR_CAPBSET_DROP(2const)."""
    for capability in capabilities:  # there is no call that drops more than one
        if _prctl(c.PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            raise KernelError.of("prctl PR_CAPBSET_DROP", ffi.errno)


def prlimit(pid: int, resource: int, soft: int, hard: int, at: str = "") -> None:
    """Set a resource limit of a process. prlimit(2)."""
    limit = ffi.new("struct rlimit *", (soft, hard))
    _checked(_prlimit(pid, resource, limit, ffi.NULL), "prlimit", at)


def limits_of(pid: int, resource: int) -> tuple[int, int]:
    """The (soft, hard) limit of a process, 0 is this one. prlimit(2)."""
    limit = ffi.new("struct rlimit *")
    _checked(_prlimit(pid, resource, ffi.NULL, limit), "prlimit")
    return limit.rlim_cur, limit.rlim_max


def capability_sets(effective: int, permitted: int, inheritable: int) -> tuple[Any, Any]:
    """The two structures for capset(2), from bit masks."""
    header = ffi.new("struct __user_cap_header_struct *", (c.LINUX_CAPABILITY_VERSION_3, 0))
    low, high = 0xFFFF_FFFF, 32
    data = ffi.new(
        "struct __user_cap_data_struct[2]",
        [
            (effective & low, permitted & low, inheritable & low),
            (effective >> high, permitted >> high, inheritable >> high),
        ],
    )
    return header, data


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set this thread's three capability sets, as bit masks. capset(2)."""
    _checked(_capset(*capability_sets(effective, permitted, inheritable)), "capset")


def ioprio_set(priority: int, pid: int = 0) -> None:
    """Set a process's I/O class and priority, 0 is this one's. ioprio_set(2)."""
    ioprio_who_process = 1
    _checked(_ioprio_set(c.SYS_ioprio_set, ioprio_who_process, pid, priority), "ioprio_set")


def set_affinity(cpus: Iterable[int], at: str) -> None:
    """Run on these CPUs. sched_setaffinity(2)."""
    try:
        os.sched_setaffinity(0, cpus)
    except (OSError, ValueError, OverflowError) as error:
        number = getattr(error, "errno", 0) or errno.EINVAL
        shown = ",".join(map(str, cpus))
        raise KernelError.of("sched_setaffinity", number, f"{at} = {shown}") from None


def sched_setattr(
    policy: int,
    flags: int,
    nice: int,
    priority: int,
    runtime: int,
    deadline: int,
    period: int,
    pid: int = 0,
) -> None:
    """Set a thread's scheduling policy, 0 is this one's; times in nanoseconds. sched_setattr(2)."""
    size = ffi.sizeof("struct sched_attr")
    attributes = ffi.new(
        "struct sched_attr *",
        (size, policy, flags, nice, priority, runtime, deadline, period),
    )
    _checked(_sched_setattr(c.SYS_sched_setattr, pid, attributes, 0), "sched_setattr")


def new_session_keyring() -> None:
    """
    Leave the caller's session keyring for a new one.

    It has no name: a name would join a keyring that exists, and any root process on the host, in
    any container, could have created one that admits others. keyctl(2).
    """
    _checked(_keyctl(c.SYS_keyctl, c.KEYCTL_JOIN_SESSION_KEYRING, ffi.NULL), "keyctl")


def seccomp_filter(program: bytes, flags: int) -> int:
    """
    Install a BPF program (an array of struct sock_filter). seccomp(2).

    Returns a descriptor if the flags ask for a listener, otherwise 0.
    """
    code = ffi.from_buffer(program)
    filters = ffi.new("struct sock_fprog *")
    filters.len = len(program) // ffi.sizeof("struct sock_filter")
    filters.filter = ffi.cast("struct sock_filter *", code)
    return _checked(_seccomp(c.SYS_seccomp, c.SECCOMP_SET_MODE_FILTER, flags, filters), "seccomp")


def bpf(command: int, attributes: object, size: int, name: str) -> int:
    """bpf(2); attributes is cdata of a union bpf_attr prefix of this size in bytes."""
    return _checked(_bpf(c.SYS_bpf, command, attributes, size), f"bpf {name}")
