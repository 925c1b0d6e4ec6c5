"""
The names used in config.json and on the command line, and the kernel's number for each.

Where the specification has a closed list of names, `parse.py` takes it from here; the plan takes
the numbers. Signals and limits are those of <asm-generic/*.h>, which x86-64 and aarch64 share.
"""

from __future__ import annotations

from ..errors import UsageError

OCI_VERSION_MIN = "1.0.0"
OCI_VERSION = "1.3.0"

# <linux/capability.h>, in the order of their numbers: capabilities(7)
CAPABILITIES = {
    f"CAP_{name}": number
    for number, name in enumerate((
        "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
        "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
        "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE",
        "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME",
        "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
        "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
        "PERFMON", "BPF", "CHECKPOINT_RESTORE",
    ))
}  # fmt: skip

# <asm-generic/resource.h>: getrlimit(2)
RLIMITS = {
    f"RLIMIT_{name}": number
    for number, name in enumerate((
        "CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS",
        "LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME",
    ))
}  # fmt: skip

# <linux/sched.h>: sched(7), sched_setattr(2)
SCHEDULER_POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHEDULER_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}

# <linux/ioprio.h>: ioprio_set(2)
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}

# <linux/personality.h>: personality(2)
PERSONALITIES = {"LINUX": 0x0000, "LINUX32": 0x0008}

# <seccomp.h>: seccomp_rule_add(3); ERRNO and TRACE carry their number in the low 16 bits
SECCOMP_ACTIONS = {
    "SCMP_ACT_KILL": 0x0000_0000,
    "SCMP_ACT_KILL_PROCESS": 0x8000_0000,
    "SCMP_ACT_KILL_THREAD": 0x0000_0000,
    "SCMP_ACT_TRAP": 0x0003_0000,
    "SCMP_ACT_ERRNO": 0x0005_0000,
    "SCMP_ACT_TRACE": 0x7FF0_0000,
    "SCMP_ACT_ALLOW": 0x7FFF_0000,
    "SCMP_ACT_LOG": 0x7FFC_0000,
    "SCMP_ACT_NOTIFY": 0x7FC0_0000,
}
SECCOMP_OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}

# <linux/audit.h>: an ELF machine number with flags; the last four need libseccomp 2.6
_64BIT, _LITTLE_ENDIAN, _N32 = 0x8000_0000, 0x4000_0000, 0x2000_0000
SECCOMP_ARCHS = {
    "SCMP_ARCH_X86": 3 | _LITTLE_ENDIAN,
    "SCMP_ARCH_X86_64": 62 | _64BIT | _LITTLE_ENDIAN,
    "SCMP_ARCH_X32": 62 | _LITTLE_ENDIAN,
    "SCMP_ARCH_ARM": 40 | _LITTLE_ENDIAN,
    "SCMP_ARCH_AARCH64": 183 | _64BIT | _LITTLE_ENDIAN,
    "SCMP_ARCH_MIPS": 8,
    "SCMP_ARCH_MIPS64": 8 | _64BIT,
    "SCMP_ARCH_MIPS64N32": 8 | _64BIT | _N32,
    "SCMP_ARCH_MIPSEL": 8 | _LITTLE_ENDIAN,
    "SCMP_ARCH_MIPSEL64": 8 | _64BIT | _LITTLE_ENDIAN,
    "SCMP_ARCH_MIPSEL64N32": 8 | _64BIT | _LITTLE_ENDIAN | _N32,
    "SCMP_ARCH_PPC": 20,
    "SCMP_ARCH_PPC64": 21 | _64BIT,
    "SCMP_ARCH_PPC64LE": 21 | _64BIT | _LITTLE_ENDIAN,
    "SCMP_ARCH_S390": 22,
    "SCMP_ARCH_S390X": 22 | _64BIT,
    "SCMP_ARCH_PARISC": 15,
    "SCMP_ARCH_PARISC64": 15 | _64BIT,
    "SCMP_ARCH_RISCV64": 243 | _64BIT | _LITTLE_ENDIAN,
    "SCMP_ARCH_LOONGARCH64": 258 | _64BIT | _LITTLE_ENDIAN,
    "SCMP_ARCH_M68K": 4,
    "SCMP_ARCH_SH": 42 | _LITTLE_ENDIAN,
    "SCMP_ARCH_SHEB": 42,
}

# <linux/seccomp.h>: seccomp(2); the last since 5.19
SECCOMP_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0x01,
    "SECCOMP_FILTER_FLAG_LOG": 0x02,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 0x04,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 0x20,
}

# <asm-generic/signal.h>: signal(7), with its synonyms
SIGNALS = {
    **{
        name: number
        for number, name in enumerate((
            "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV",
            "USR2", "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN",
            "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
        ), start=1)
    },
    "IOT": 6,
    "CLD": 17,
    "POLL": 29,
}  # fmt: skip

# The kernel's real-time signals begin at 32, but the C library reserves two for its threads.
SIGRTMIN, SIGRTMAX = 34, 64


def signal_number(text: str) -> int:
    """
    The number of a signal: "TERM", "SIGTERM", "sigterm", "15", "SIGRTMIN+3", "RTMAX-1".

    0 only checks that the process exists, as in kill(2). Raises UsageError.
    """
    name = text.upper().removeprefix("SIG")
    if name in SIGNALS:
        return SIGNALS[name]
    if _is_number(text):
        return _within(int(text), 0, text)
    if name.startswith("RTMIN"):
        return _within(SIGRTMIN + _offset(name[len("RTMIN") :], "+", text), SIGRTMIN, text)
    if name.startswith("RTMAX"):
        return _within(SIGRTMAX - _offset(name[len("RTMAX") :], "-", text), SIGRTMIN, text)
    raise _no_signal(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 3


def _offset(text: str, sign: str, whole: str) -> int:
    """The number in "+3" or "-3"; 0 if the text is empty."""
    if not text:
        return 0
    if text[0] != sign or not _is_number(text[1:]):
        raise _no_signal(whole)
    return int(text[1:])


def _within(number: int, low: int, text: str) -> int:
    if not low <= number <= SIGRTMAX:
        raise _no_signal(text)
    return number


def _no_signal(text: str) -> UsageError:
    return UsageError(
        "is not a signal",
        at="signal",
        value=repr(text),
        remedy=f"give a name such as TERM or SIGRTMIN+3, or a number from 0 to {SIGRTMAX}",
    )
