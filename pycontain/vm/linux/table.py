"""
The system calls that are served: each with the kinds of its arguments and what serves it.

From this table come the dispatch, the trace (strace.py) and a page of the documentation. A call
that is not in it is answered with ENOSYS.

Kinds:
    fd       a descriptor                    dirfd   one, or AT_FDCWD
    path     a string with a file's name     text    another string
    in@N     memory that is read; argument N is its length in bytes
    out@N    memory that is written; the result is how much
    ptr      an address of anything else
    int      signed, 32 bits                 long    signed, 64 bits
    size     unsigned                        flags   shown in hexadecimal
    mode     shown in octal                  sig     a signal
    pid      a process
A row whose kinds end with "..." blocks: a signal or the deadline ends it.
"""

from __future__ import annotations

from ...lean.record import Record
from . import (
    channels,
    clock,
    data,
    execute,
    family,
    futex,
    identity,
    memory,
    paths,
    sigcalls,
    sockets,
    terminal,
    threads,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Call(Record):
    """
    One system call.

    kinds      of its arguments, as above
    blocks     whether it may wait
    function   what serves it: (task, argument...) -> result, a negative errno for an error
    types      of the arguments that the function takes: which bits, and which of them is the sign
    """

    name: str
    kinds: tuple[str, ...]
    blocks: bool
    function: Callable[..., int]
    types: tuple[tuple[int, int], ...]

    def arguments(self, registers: Sequence[int]) -> list[int]:
        """The arguments of a call, as the C types that they have."""
        if not self.types:
            return []
        return [
            (value & bits) - 2 * (value & sign)
            for value, (bits, sign) in zip(registers, self.types, strict=False)
        ]


# name: (kinds, function)
_ROWS: dict[str, tuple[str, Callable[..., int]]] = {
    # bytes
    "read": ("fd out@2 size ...", data.read),
    "write": ("fd in@2 size ...", data.write),
    "readv": ("fd ptr size ...", data.readv),
    "writev": ("fd ptr size ...", data.writev),
    "pread64": ("fd out@2 size long", data.pread64),
    "pwrite64": ("fd in@2 size long", data.pwrite64),
    "preadv": ("fd ptr size long", data.preadv),
    "pwritev": ("fd ptr size long", data.pwritev),
    "lseek": ("fd long int", data.lseek),
    "sendfile": ("fd fd ptr size ...", data.sendfile),
    "copy_file_range": ("fd ptr fd ptr size", data.copy_file_range),
    "getdents64": ("fd ptr size", data.getdents64),
    "ftruncate": ("fd long", data.ftruncate),
    "fallocate": ("fd flags long long", data.fallocate),
    "fsync": ("fd", data.fsync),
    "fdatasync": ("fd", data.fsync),
    "fadvise64": ("fd", data.fadvise64),
    # descriptors
    "close": ("fd", data.close),
    "close_range": ("size size flags", data.close_range),
    "dup": ("fd", data.dup),
    "dup2": ("fd fd", data.dup2),
    "dup3": ("fd fd flags", data.dup3),
    "fcntl": ("fd int ptr ...", data.fcntl),
    "flock": ("fd int ...", data.flock),
    "ioctl": ("fd flags ptr", terminal.ioctl),
    # paths
    "open": ("path flags mode", paths.open),
    "openat": ("dirfd path flags mode", paths.openat),
    "creat": ("path mode", paths.creat),
    "stat": ("path ptr", paths.stat_),
    "lstat": ("path ptr", paths.lstat),
    "fstat": ("fd ptr", paths.fstat),
    "newfstatat": ("dirfd path ptr flags", paths.newfstatat),
    "statx": ("dirfd path flags flags ptr", paths.statx),
    "access": ("path mode", paths.access),
    "faccessat": ("dirfd path mode", paths.faccessat),
    "faccessat2": ("dirfd path mode flags", paths.faccessat2),
    "readlink": ("path ptr size", paths.readlink),
    "readlinkat": ("dirfd path ptr size", paths.readlinkat),
    "getcwd": ("ptr size", paths.getcwd),
    "chdir": ("path", paths.chdir),
    "fchdir": ("fd", paths.fchdir),
    "statfs": ("path ptr", paths.statfs),
    "fstatfs": ("fd ptr", paths.fstatfs),
    "getxattr": ("path text ptr size", paths.no_attributes),
    "lgetxattr": ("path text ptr size", paths.no_attributes),
    "fgetxattr": ("fd text ptr size", paths.no_attributes_of_descriptor),
    "listxattr": ("path ptr size", paths.list_attributes),
    "llistxattr": ("path ptr size", paths.list_attributes),
    "flistxattr": ("fd ptr size", paths.list_attributes_of_descriptor),
    "mkdir": ("path mode", paths.mkdir),
    "mkdirat": ("dirfd path mode", paths.mkdirat),
    "rmdir": ("path", paths.rmdir),
    "unlink": ("path", paths.unlink),
    "unlinkat": ("dirfd path flags", paths.unlinkat),
    "rename": ("path path", paths.rename),
    "renameat": ("dirfd path dirfd path", paths.renameat),
    "renameat2": ("dirfd path dirfd path flags", paths.renameat2),
    "link": ("path path", paths.link),
    "linkat": ("dirfd path dirfd path flags", paths.linkat),
    "symlink": ("path path", paths.symlink),
    "symlinkat": ("path dirfd path", paths.symlinkat),
    "mknod": ("path mode size", paths.mknod),
    "mknodat": ("dirfd path mode size", paths.mknodat),
    "truncate": ("path long", paths.truncate),
    "chmod": ("path mode", paths.chmod),
    "fchmod": ("fd mode", paths.fchmod),
    "fchmodat": ("dirfd path mode", paths.fchmodat),
    "chown": ("path int int", paths.chown),
    "lchown": ("path int int", paths.lchown),
    "fchown": ("fd int int", paths.fchown),
    "fchownat": ("dirfd path int int flags", paths.fchownat),
    "utimensat": ("dirfd path ptr flags", paths.utimensat),
    "umask": ("mode", paths.umask),
    # memory
    "mmap": ("ptr size flags flags fd long", memory.mmap),
    "munmap": ("ptr size", memory.munmap),
    "mprotect": ("ptr size flags", memory.mprotect),
    "mremap": ("ptr size size flags ptr", memory.mremap),
    "madvise": ("ptr size int", memory.madvise),
    "msync": ("ptr size flags", memory.msync),
    "memfd_create": ("text flags", memory.memfd_create),
    "mincore": ("ptr size ptr", memory.mincore),
    "brk": ("ptr", memory.brk),
    "mlock": ("ptr size", identity.nothing),
    "munlock": ("ptr size", identity.nothing),
    # processes
    "fork": ("", family.fork),
    "vfork": ("...", family.vfork),
    "clone": ("flags ptr ptr ptr ptr ...", family.clone),
    "clone3": ("ptr size ...", family.clone3),
    "execve": ("path ptr ptr", execute.execve),
    "execveat": ("dirfd path ptr ptr flags", execute.execveat),
    "exit": ("int", threads.exit),
    "exit_group": ("int", threads.exit_group),
    "wait4": ("pid ptr flags ptr ...", family.wait4),
    "waitid": ("int pid ptr flags ptr ...", family.waitid),
    "getpid": ("", family.getpid),
    "gettid": ("", family.gettid),
    "getppid": ("", family.getppid),
    "getpgid": ("pid", family.getpgid),
    "getpgrp": ("", family.getpgrp),
    "getsid": ("pid", family.getsid),
    "setpgid": ("pid pid", family.setpgid),
    "setsid": ("", family.setsid),
    "futex": ("ptr int int ptr ptr int ...", futex.futex),
    "set_tid_address": ("ptr", family.set_tid_address),
    "rseq": ("ptr size flags flags", identity.refused),
    "membarrier": ("int flags int", threads.membarrier),
    "set_robust_list": ("ptr size", threads.set_robust_list),
    # signals
    "rt_sigaction": ("sig ptr ptr size", sigcalls.rt_sigaction),
    "rt_sigprocmask": ("int ptr ptr size", sigcalls.rt_sigprocmask),
    "rt_sigpending": ("ptr size", sigcalls.rt_sigpending),
    "rt_sigsuspend": ("ptr size ...", sigcalls.rt_sigsuspend),
    "rt_sigtimedwait": ("ptr ptr ptr size ...", sigcalls.rt_sigtimedwait),
    "rt_sigqueueinfo": ("pid sig ptr", sigcalls.rt_sigqueueinfo),
    "rt_tgsigqueueinfo": ("pid pid sig ptr", sigcalls.rt_tgsigqueueinfo),
    "rt_sigreturn": ("", sigcalls.rt_sigreturn),
    "sigaltstack": ("ptr ptr", sigcalls.sigaltstack),
    "pause": ("...", sigcalls.pause),
    "kill": ("pid sig", sigcalls.kill),
    "tkill": ("pid sig", sigcalls.tkill),
    "tgkill": ("pid pid sig", sigcalls.tgkill),
    # channels
    "pipe": ("ptr", channels.pipe),
    "pipe2": ("ptr flags", channels.pipe2),
    "eventfd": ("size", channels.eventfd),
    "eventfd2": ("size flags", channels.eventfd2),
    "timerfd_create": ("int flags", channels.timerfd_create),
    "timerfd_settime": ("fd flags ptr ptr", channels.timerfd_settime),
    "timerfd_gettime": ("fd ptr", channels.timerfd_gettime),
    "poll": ("ptr size int ...", channels.poll),
    "ppoll": ("ptr size ptr ptr size ...", channels.ppoll),
    "select": ("int ptr ptr ptr ptr ...", channels.select_),
    "pselect6": ("int ptr ptr ptr ptr ptr ...", channels.pselect6),
    "epoll_create": ("int", channels.epoll_create),
    "epoll_create1": ("flags", channels.epoll_create1),
    "epoll_ctl": ("fd int fd ptr", channels.epoll_ctl),
    "epoll_wait": ("fd ptr int int ...", channels.epoll_wait),
    "epoll_pwait": ("fd ptr int int ptr size ...", channels.epoll_pwait),
    "epoll_pwait2": ("fd ptr int ptr ptr ...", channels.epoll_pwait2),
    # sockets
    "socket": ("int flags int", sockets.socket_),
    "socketpair": ("int flags int ptr", sockets.socketpair),
    "bind": ("fd ptr size", sockets.bind),
    "listen": ("fd int", sockets.listen),
    "accept": ("fd ptr ptr ...", sockets.accept),
    "accept4": ("fd ptr ptr flags ...", sockets.accept4),
    "connect": ("fd ptr size ...", sockets.connect),
    "getsockname": ("fd ptr ptr", sockets.getsockname),
    "getpeername": ("fd ptr ptr", sockets.getpeername),
    "setsockopt": ("fd int int ptr size", sockets.setsockopt),
    "getsockopt": ("fd int int ptr ptr", sockets.getsockopt),
    "sendto": ("fd in@2 size flags ptr size ...", sockets.sendto),
    "recvfrom": ("fd out@2 size flags ptr ptr ...", sockets.recvfrom),
    "sendmsg": ("fd ptr flags ...", sockets.sendmsg),
    "recvmsg": ("fd ptr flags ...", sockets.recvmsg),
    "shutdown": ("fd int", sockets.shutdown),
    # time
    "gettimeofday": ("ptr ptr", clock.gettimeofday),
    "time": ("ptr", clock.time_),
    "clock_gettime": ("int ptr", clock.clock_gettime),
    "clock_getres": ("int ptr", clock.clock_getres),
    "nanosleep": ("ptr ptr ...", clock.nanosleep),
    "clock_nanosleep": ("int flags ptr ptr ...", clock.clock_nanosleep),
    "times": ("ptr", clock.times),
    "getrusage": ("int ptr", clock.getrusage),
    "alarm": ("size", clock.alarm),
    "getitimer": ("int ptr", clock.getitimer),
    "setitimer": ("int ptr ptr", clock.setitimer),
    "timer_create": ("int ptr ptr", clock.timer_create),
    "timer_settime": ("int flags ptr ptr", clock.timer_settime),
    "timer_gettime": ("int ptr", clock.timer_gettime),
    "timer_getoverrun": ("int", clock.timer_getoverrun),
    "timer_delete": ("int", clock.timer_delete),
    "sched_yield": ("", clock.sched_yield),
    # identity
    "uname": ("ptr", identity.uname),
    "arch_prctl": ("flags ptr", identity.arch_prctl),
    "prlimit64": ("pid int ptr ptr", identity.prlimit64),
    "getrlimit": ("int ptr", identity.getrlimit),
    "setrlimit": ("int ptr", identity.setrlimit),
    "getrandom": ("ptr size flags", identity.getrandom),
    "getuid": ("", identity.getuid),
    "geteuid": ("", identity.getuid),
    "getgid": ("", identity.getgid),
    "getegid": ("", identity.getgid),
    "getresuid": ("ptr ptr ptr", identity.getresuid),
    "getresgid": ("ptr ptr ptr", identity.getresgid),
    "getgroups": ("int ptr", identity.getgroups),
    "setuid": ("int", identity.setuid),
    "setgid": ("int", identity.setgid),
    "setreuid": ("int int", identity.setreuid),
    "setregid": ("int int", identity.setregid),
    "setresuid": ("int int int", identity.setresuid),
    "setresgid": ("int int int", identity.setresgid),
    "setgroups": ("int ptr", identity.setgroups),
    "capget": ("ptr ptr", identity.capget),
    "prctl": ("int ptr", identity.prctl),
    "sysinfo": ("ptr", identity.sysinfo),
    "sched_getaffinity": ("pid size ptr", identity.sched_getaffinity),
    "sched_setaffinity": ("pid size ptr", identity.sched_setaffinity),
    "getcpu": ("ptr ptr", identity.getcpu),
}


_UNSIGNED, _SIGNED = (0xFFFF_FFFF, 0), (0xFFFF_FFFF, 1 << 31)
_LONG, _SIGNED_LONG = ((1 << 64) - 1, 0), ((1 << 64) - 1, 1 << 63)
_TYPES = {
    "fd": _UNSIGNED, "dirfd": _SIGNED, "int": _SIGNED, "pid": _SIGNED, "sig": _SIGNED,
    "flags": _UNSIGNED, "mode": _UNSIGNED, "long": _SIGNED_LONG,
}  # fmt: skip


def _arity(function: Callable[..., int]) -> int:
    return function.__code__.co_argcount - 1


def _call(name: str, kinds: str, function: Callable[..., int]) -> Call:
    words = kinds.split()
    blocks = words[-1:] == ["..."]
    kinds_ = tuple(words[:-1] if blocks else words)
    return Call(
        name=name, kinds=kinds_, blocks=blocks, function=function,
        types=tuple(_TYPES.get(kind, _LONG) for kind in kinds_[: _arity(function)]),
    )  # fmt: skip


TABLE = {name: _call(name, kinds, function) for name, (kinds, function) in _ROWS.items()}
