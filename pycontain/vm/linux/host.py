"""
The system calls of the host that serving the program's needs, by the module that serves them.

From the table and these the monitor's seccomp filter is made (jail.py): a module that no row of
the table uses adds nothing to it.
"""

from __future__ import annotations

_FILES = """
    openat openat2 open stat lstat newfstatat statx access faccessat faccessat2 readlink
    readlinkat statfs fstatfs mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link
    linkat symlink symlinkat mknod mknodat truncate ftruncate chmod fchmod fchmodat chown lchown
    fchown fchownat utimensat umask memfd_create dup dup2 dup3 getdents64
"""
_BY_MODULE = {
    "channels": """
        pipe2 eventfd2 timerfd_create timerfd_settime timerfd_gettime epoll_create1 epoll_ctl
        epoll_wait epoll_pwait epoll_pwait2 select pselect6
    """,
    "clock": "clock_getres gettimeofday time times getrusage nanosleep",
    "data": """
        readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 sendfile copy_file_range
        getdents64 ftruncate fallocate fsync fdatasync fadvise64 dup dup2 dup3 flock
    """,
    "execute": _FILES + "preadv pread64",
    "family": "fork vfork pipe2 pidfd_open",
    "futex": "",
    "identity": "uname sysinfo sched_getaffinity sched_setaffinity getcpu prlimit64",
    "memory": "msync memfd_create ftruncate pread64 preadv pwrite64 pwritev",
    "paths": _FILES,
    "sigcalls": "",
    "sockets": "socket socketpair sendmsg recvmsg shutdown getsockname getsockopt",
    "terminal": "",
    "threads": "",
}


NETWORK = "bind listen accept4 connect getpeername setsockopt"  # where it is allowed


def calls_of(module: str) -> set[str]:
    """What the host is asked for by the functions of a module that serve calls of the table."""
    return set(_BY_MODULE.get(module.rpartition(".")[2], "").split())
