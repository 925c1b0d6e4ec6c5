"""
System calls by number, for each machine: those that are served, and those that are known by name.

<asm/unistd.h>; a test compares them with the headers.
"""

from __future__ import annotations

X86_64 = {
    0: "read", 1: "write", 2: "open", 3: "close", 4: "stat", 5: "fstat", 6: "lstat", 7: "poll",
    8: "lseek", 9: "mmap", 10: "mprotect", 11: "munmap", 12: "brk", 13: "rt_sigaction",
    14: "rt_sigprocmask", 15: "rt_sigreturn", 16: "ioctl", 17: "pread64", 18: "pwrite64",
    19: "readv", 20: "writev", 21: "access", 22: "pipe", 23: "select", 24: "sched_yield",
    25: "mremap", 28: "madvise", 32: "dup", 33: "dup2", 35: "nanosleep", 37: "alarm", 39: "getpid",
    40: "sendfile", 41: "socket", 56: "clone", 57: "fork", 58: "vfork", 59: "execve", 60: "exit",
    61: "wait4", 62: "kill", 63: "uname", 72: "fcntl", 74: "fsync", 76: "truncate",
    77: "ftruncate", 79: "getcwd", 80: "chdir", 81: "fchdir", 82: "rename", 83: "mkdir",
    86: "link", 87: "unlink", 88: "symlink", 89: "readlink", 90: "chmod", 91: "fchmod",
    93: "fchown", 95: "umask", 96: "gettimeofday", 98: "getrusage", 99: "sysinfo", 100: "times",
    102: "getuid", 104: "getgid", 105: "setuid", 106: "setgid", 107: "geteuid", 108: "getegid",
    109: "setpgid", 110: "getppid", 111: "getpgrp", 112: "setsid", 115: "getgroups",
    121: "getpgid", 131: "sigaltstack", 137: "statfs", 138: "fstatfs", 149: "mlock",
    158: "arch_prctl", 186: "gettid", 200: "tkill", 201: "time", 202: "futex",
    204: "sched_getaffinity", 217: "getdents64", 218: "set_tid_address", 221: "fadvise64",
    228: "clock_gettime", 229: "clock_getres", 230: "clock_nanosleep", 231: "exit_group",
    233: "epoll_ctl", 234: "tgkill", 257: "openat", 258: "mkdirat", 262: "newfstatat",
    263: "unlinkat", 267: "readlinkat", 269: "faccessat", 270: "pselect6", 271: "ppoll",
    273: "set_robust_list", 280: "utimensat", 281: "epoll_pwait", 290: "eventfd2",
    291: "epoll_create1", 292: "dup3", 293: "pipe2", 302: "prlimit64", 318: "getrandom",
    324: "membarrier", 326: "copy_file_range", 332: "statx", 334: "rseq", 435: "clone3",
    439: "faccessat2",
}  # fmt: skip

AARCH64 = {
    17: "getcwd", 19: "eventfd2", 20: "epoll_create1", 21: "epoll_ctl", 22: "epoll_pwait",
    23: "dup", 24: "dup3", 25: "fcntl", 29: "ioctl", 34: "mkdirat", 35: "unlinkat", 45: "truncate",
    48: "faccessat", 49: "chdir", 50: "fchdir", 52: "fchmod", 55: "fchown", 56: "openat",
    57: "close", 59: "pipe2", 61: "getdents64", 62: "lseek", 63: "read", 64: "write", 65: "readv",
    66: "writev", 67: "pread64", 68: "pwrite64", 71: "sendfile", 72: "pselect6", 73: "ppoll",
    78: "readlinkat", 79: "newfstatat", 82: "fsync", 88: "utimensat", 93: "exit", 94: "exit_group",
    96: "set_tid_address", 98: "futex", 99: "set_robust_list", 101: "nanosleep",
    113: "clock_gettime", 114: "clock_getres", 115: "clock_nanosleep", 123: "sched_getaffinity",
    124: "sched_yield", 129: "kill", 130: "tkill", 131: "tgkill", 132: "sigaltstack",
    134: "rt_sigaction", 135: "rt_sigprocmask", 139: "rt_sigreturn", 144: "setgid", 146: "setuid",
    153: "times", 154: "setpgid", 155: "getpgid", 157: "setsid", 158: "getgroups", 160: "uname",
    165: "getrusage", 166: "umask", 169: "gettimeofday", 172: "getpid", 173: "getppid",
    174: "getuid", 175: "geteuid", 176: "getgid", 177: "getegid", 178: "gettid", 179: "sysinfo",
    198: "socket", 214: "brk", 215: "munmap", 216: "mremap", 220: "clone", 221: "execve",
    222: "mmap", 226: "mprotect", 228: "mlock", 233: "madvise", 260: "wait4", 261: "prlimit64",
    278: "getrandom", 283: "membarrier", 285: "copy_file_range", 291: "statx", 293: "rseq",
    435: "clone3", 439: "faccessat2",
}  # fmt: skip

BY_MACHINE = {"x86_64": X86_64, "aarch64": AARCH64}
