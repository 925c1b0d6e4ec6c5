"""Kernel constants, grouped by header; those that Python has are not repeated."""

from __future__ import annotations

from ..lean import os

# <signal.h>: all but the two that libc reserves.
ALL_SIGNALS = frozenset(range(1, 65)) - {32, 33}

# <sys/syscall.h>: since 5.1 new calls have one number on every architecture ...
SYS_pidfd_send_signal = 424
SYS_open_tree = 428
SYS_move_mount = 429
SYS_fsopen = 430
SYS_fsconfig = 431
SYS_fsmount = 432
SYS_fspick = 433
SYS_clone3 = 435
SYS_close_range = 436
SYS_openat2 = 437
SYS_pidfd_getfd = 438
SYS_mount_setattr = 442

# ... older ones do not
_OLDER = {
    "x86_64": {
        "setgroups": 116, "setresuid": 117, "setresgid": 119,
        "rt_sigaction": 13, "getcwd": 79, "pivot_root": 155, "keyctl": 250, "ioprio_set": 251,
        "sched_setattr": 314, "seccomp": 317, "bpf": 321, "statx": 332, "read": 0, "write": 1,
        "close": 3, "ioctl": 16, "execve": 59, "setpgid": 109, "setsid": 112, "capset": 126,
        "dup3": 292, "prlimit64": 302, "set_mempolicy": 238, "clone": 56,
    },
    "aarch64": {
        "setgroups": 159, "setresuid": 147, "setresgid": 149,
        "rt_sigaction": 134, "getcwd": 17, "pivot_root": 41, "keyctl": 219, "ioprio_set": 30,
        "sched_setattr": 274, "seccomp": 277, "bpf": 280, "statx": 291, "read": 63, "write": 64,
        "close": 57, "ioctl": 29, "execve": 221, "setpgid": 154, "setsid": 157, "capset": 91,
        "dup3": 24, "prlimit64": 261, "set_mempolicy": 237, "clone": 220,
    },
}  # fmt: skip
_numbers = _OLDER[os.uname().machine]
SYS_clone = _numbers["clone"]
SYS_getcwd = _numbers["getcwd"]
SYS_setgroups, SYS_setresuid = _numbers["setgroups"], _numbers["setresuid"]
SYS_setresgid = _numbers["setresgid"]
SYS_rt_sigaction = _numbers["rt_sigaction"]
SYS_pivot_root = _numbers["pivot_root"]
SYS_keyctl = _numbers["keyctl"]
SYS_ioprio_set = _numbers["ioprio_set"]
SYS_sched_setattr = _numbers["sched_setattr"]
SYS_seccomp = _numbers["seccomp"]
SYS_bpf = _numbers["bpf"]
SYS_set_mempolicy = _numbers["set_mempolicy"]
SYS_statx = _numbers["statx"]
# those that only a bare process makes by their numbers (bare.py)
SYS_read, SYS_write, SYS_close = _numbers["read"], _numbers["write"], _numbers["close"]
SYS_ioctl, SYS_execve, SYS_setpgid = _numbers["ioctl"], _numbers["execve"], _numbers["setpgid"]
SYS_setsid, SYS_capset, SYS_dup3 = _numbers["setsid"], _numbers["capset"], _numbers["dup3"]
SYS_prlimit64 = _numbers["prlimit64"]

# <linux/fcntl.h>
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

# <linux/stat.h>
STATX_MNT_ID = 0x1000

# <linux/openat2.h>
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

# <linux/sched.h>
CLONE_NEWTIME = 0x0000_0080
CLONE_VM = 0x0000_0100
CLONE_FILES = 0x0000_0400
CLONE_PIDFD = 0x0000_1000
CLONE_VFORK = 0x0000_4000
CLONE_PARENT = 0x0000_8000
CLONE_PARENT_SETTID = 0x0010_0000
CLONE_NEWNS = 0x0002_0000
CLONE_NEWCGROUP = 0x0200_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000
CLONE_INTO_CGROUP = 0x2_0000_0000

# <linux/mount.h>: the mount API of 5.2, mount_setattr of 5.12
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSPICK_CLOEXEC = 1
FSPICK_EMPTY_PATH = 8
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6
FSCONFIG_CMD_RECONFIGURE = 7
MOUNT_ATTR_RDONLY = 0x0000_0001
MOUNT_ATTR_NOSUID = 0x0000_0002
MOUNT_ATTR_NODEV = 0x0000_0004
MOUNT_ATTR_NOEXEC = 0x0000_0008
MOUNT_ATTR__ATIME = 0x0000_0070  # the field that holds one of the next three
MOUNT_ATTR_RELATIME = 0x0000_0000
MOUNT_ATTR_NOATIME = 0x0000_0010
MOUNT_ATTR_STRICTATIME = 0x0000_0020
MOUNT_ATTR_NODIRATIME = 0x0000_0080
MOUNT_ATTR_IDMAP = 0x0010_0000
MOUNT_ATTR_NOSYMFOLLOW = 0x0020_0000  # 5.14
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

# <linux/magic.h>
CGROUP2_SUPER_MAGIC = 0x6367_7270
DEVPTS_SUPER_MAGIC = 0x1CD1
OVERLAYFS_SUPER_MAGIC = 0x794C_7630
PROC_SUPER_MAGIC = 0x9FA0
SYSFS_MAGIC = 0x6265_6572
TMPFS_MAGIC = 0x0102_1994

# <linux/prctl.h>
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 4  # <linux/securebits.h>
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

# <linux/capability.h>
LINUX_CAPABILITY_VERSION_3 = 0x2008_0522

# <linux/seccomp.h>
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_TSYNC = 0x01
SECCOMP_FILTER_FLAG_NEW_LISTENER = 0x08
SECCOMP_FILTER_FLAG_TSYNC_ESRCH = 0x10
SECCOMP_RET_ACTION_FULL = 0xFFFF_0000
SECCOMP_RET_ERRNO = 0x0005_0000
SECCOMP_RET_USER_NOTIF = 0x7FC0_0000
SECCOMP_RET_TRACE = 0x7FF0_0000
SECCOMP_RET_LOG = 0x7FFC_0000
SECCOMP_RET_ALLOW = 0x7FFF_0000

# <linux/audit.h>
AUDIT_ARCH_X86_64 = 0xC000_003E

# <linux/filter.h>: the classic instructions of a system call filter
BPF_MAXINSNS = 4096
BPF_LD_W_ABS = 0x20
BPF_JA = 0x05
BPF_JEQ_K = 0x15
BPF_JGT_K = 0x25
BPF_JSET_K = 0x45
BPF_RET_K = 0x06

# <linux/bpf.h>: device filters of cgroups
BPF_PROG_LOAD = 5
BPF_PROG_ATTACH = 8
BPF_PROG_DETACH = 9
BPF_PROG_GET_FD_BY_ID = 13
BPF_OBJ_GET_INFO_BY_FD = 15
BPF_PROG_QUERY = 16
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 2
BPF_F_REPLACE = 4
BPF_DEVCG_ACC_MKNOD = 1
BPF_DEVCG_ACC_READ = 2
BPF_DEVCG_ACC_WRITE = 4
BPF_DEVCG_DEV_BLOCK = 1
BPF_DEVCG_DEV_CHAR = 2

# <linux/close_range.h>
CLOSE_RANGE_CLOEXEC = 4

# <linux/keyctl.h>
KEYCTL_JOIN_SESSION_KEYRING = 1

# <asm-generic/ioctls.h>, <linux/nsfs.h>, <linux/sockios.h>
TCGETS = 0x5401
TCSETS = 0x5402
TIOCSCTTY = 0x540E
TIOCGWINSZ = 0x5413
TIOCSWINSZ = 0x5414
TIOCSPTLCK = 0x4004_5431
TIOCGPTPEER = 0x5441
NS_GET_NSTYPE = 0xB703
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 1

# <bits/socket.h>
AF_INET = 2
SOCK_DGRAM = 2
SOCK_CLOEXEC = 0o2000000
