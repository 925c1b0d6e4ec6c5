"""
The system calls that the default configuration allows, as `linux.seccomp`.

What is not listed fails with EPERM; calls newer than all that are listed fail with ENOSYS, so that
programs try an older one. The list holds what unprivileged programs use, and what a capability
makes usable if the container has it. Everything allowed here is allowed by Docker, too.

Left out, though harmless-looking: keyctl(2) and its relatives, since keys are not divided among
containers; io_uring, whose requests a filter does not see; userfaultfd(2), which makes races in the
kernel easy to win; unshare(2), setns(2) and clone(2) with new namespaces, which reach parts of the
kernel that were written for root; bpf(2), perf_event_open(2); and system calls of 32-bit programs,
an entrance to the kernel of their own with fewer users.

Source: config-linux.md, Seccomp; syscalls(2).
"""

from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_ALLOWED = {
    "files and directories": """
        access chdir chmod chown close close_range creat dup dup2 dup3 faccessat faccessat2 fchdir
        fchmod fchmodat fchmodat2 fchown fchownat fcntl flock fstat fstatfs futimesat getcwd
        getdents getdents64 lchown link linkat lstat mkdir mkdirat mknod mknodat name_to_handle_at
        newfstatat open openat openat2 readlink readlinkat rename renameat renameat2 rmdir stat
        statfs statx symlink symlinkat umask unlink unlinkat utime utimensat utimes
    """,
    "extended attributes": """
        fgetxattr flistxattr fremovexattr fsetxattr getxattr lgetxattr listxattr llistxattr
        lremovexattr lsetxattr removexattr setxattr
    """,
    "reading and writing": """
        cachestat copy_file_range fadvise64 fallocate fdatasync fsync ftruncate ioctl lseek pread64
        preadv preadv2 pwrite64 pwritev pwritev2 read readahead readv sendfile splice sync
        sync_file_range syncfs tee truncate write writev
    """,
    "asynchronous input and output": "io_cancel io_destroy io_getevents io_setup io_submit",
    "waiting for descriptors": """
        epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2
        inotify_add_watch inotify_init inotify_init1 inotify_rm_watch pipe pipe2 poll ppoll
        pselect6 select signalfd signalfd4
    """,
    "memory": """
        brk madvise membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mprotect
        mremap msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect
    """,
    "processes and threads": """
        arch_prctl execve execveat exit exit_group fork futex futex_waitv get_robust_list
        get_thread_area getpgid getpgrp getpid getppid getsid gettid prctl process_mrelease
        restart_syscall rseq set_robust_list set_thread_area set_tid_address setpgid setsid vfork
        wait4 waitid
    """,
    # within the container's pid namespace, as ptrace(2) permits; since Linux 4.8 the filter is
    # applied to what a tracer changes
    "debugging": "process_vm_readv process_vm_writev ptrace",
    "signals": """
        kill pause pidfd_open pidfd_send_signal rt_sigaction rt_sigpending rt_sigprocmask
        rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sigaltstack
        tgkill tkill
    """,
    # what the kernel permits to users and to the capabilities that the container has
    "identity": """
        capget capset getegid geteuid getgid getgroups getresgid getresuid getuid setfsgid setfsuid
        setgid setgroups setregid setresgid setresuid setreuid setuid
    """,
    "further confinement": """
        landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp
    """,
    "scheduling and limits": """
        getcpu getpriority getrlimit getrusage ioprio_get ioprio_set prlimit64
        sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
        sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam
        sched_setscheduler sched_yield setpriority setrlimit
    """,
    # adjtimex and clock_adjtime only read without CAP_SYS_TIME
    "time": """
        adjtimex alarm clock_adjtime clock_getres clock_gettime clock_nanosleep getitimer
        gettimeofday nanosleep setitimer time timer_create timer_delete timer_getoverrun
        timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times
    """,
    "sockets": """
        accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg
        recvmsg sendmmsg sendmsg sendto setsockopt shutdown socketpair
    """,
    "System V and POSIX communication": """
        mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv
        msgsnd semctl semget semop semtimedop shmat shmctl shmdt shmget
    """,
    "the system": "getrandom sysinfo uname",
}

# What a capability makes usable; without it the call would fail anyway, in more code.
_WITH_CAPABILITY = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 fanotify_init fanotify_mark fsconfig fsmount fsopen fspick mount
        mount_setattr move_mount open_tree perf_event_open quotactl setdomainname
        sethostname setns syslog umount2 unshare
    """,
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime settimeofday",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYSLOG": "syslog",
}

# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET: <linux/sched.h>
_NEW_NAMESPACES = 0x7E02_0000

# personality(2): PER_LINUX, PER_LINUX32 and the question which one it is. The bits that switch off
# the randomization of addresses are left out.
_PERSONALITIES = (0x0, 0x8, 0xFFFF_FFFF)

# socket(2): AF_UNIX, AF_INET, AF_INET6 and, without the audit protocol, AF_NETLINK. Others load
# modules on demand, or like AF_VSOCK reach out of the network namespace.
_FAMILIES = (1, 2, 10)
_AF_NETLINK, _AF_PACKET, _NETLINK_AUDIT = 16, 17, 9


def profile(capabilities: Iterable[str]) -> dict[str, object]:
    """The profile for a container with these capabilities, as the JSON value `linux.seccomp`."""
    held = set(capabilities)
    names = {name for listed in _ALLOWED.values() for name in listed.split()}
    for capability, listed in _WITH_CAPABILITY.items():
        if capability in held:
            names.update(listed.split())
    rules = [_rule(*sorted(names))]
    rules += (_rule("personality", _equal(0, value)) for value in _PERSONALITIES)
    rules += _sockets(held)
    if "CAP_SYS_ADMIN" not in held:
        rules += _clone()
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "syscalls": rules,
    }


def _clone() -> list[dict[str, object]]:
    """clone3 keeps its flags in memory, which a filter cannot read: the C library tries clone."""
    without = {"index": 0, "value": _NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    missing = {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS}
    return [_rule("clone", without), missing]


def _sockets(held: set[str]) -> list[dict[str, object]]:
    families = (*_FAMILIES, *((_AF_PACKET,) if "CAP_NET_RAW" in held else ()))
    rules = [_rule("socket", _equal(0, family)) for family in families]
    netlink = [_equal(0, _AF_NETLINK)]
    if "CAP_AUDIT_WRITE" not in held:
        netlink.append({"index": 2, "value": _NETLINK_AUDIT, "op": "SCMP_CMP_NE"})
    return [*rules, _rule("socket", *netlink)]


def _equal(index: int, value: int) -> dict[str, object]:
    """The condition that an argument has this value."""
    return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}


def _rule(*given: str | dict[str, object]) -> dict[str, object]:
    """A rule that allows the calls named, if the conditions given hold."""
    conditions = [one for one in given if isinstance(one, dict)]
    rule: dict[str, object] = {
        "names": [one for one in given if isinstance(one, str)],
        "action": "SCMP_ACT_ALLOW",
    }
    return {**rule, "args": conditions} if conditions else rule
