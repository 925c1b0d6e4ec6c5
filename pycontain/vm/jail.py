"""
What a monitor gives up before the first instruction of a program.

Whoever takes over a handler of a system call, by a defect in it, holds what the monitor holds: so
it keeps no capability, opens no file outside the root and the volumes (Landlock), and makes no
system call that no row of the table needs (seccomp). Nothing is imported after close().
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from ..kernel import calls, landlock
from ..kernel import const as c
from . import abi
from .linux.host import NETWORK, calls_of
from .linux.numbers import BY_MACHINE
from .linux.table import TABLE
from .linux.terminal import REQUESTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .view import View

_ARCHITECTURES = {"x86_64": c.AUDIT_ARCH_X86_64, "aarch64": 0xC000_00B7}
_X32 = 0x4000_0000
_NR, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data, seccomp(2); little-endian
_EPERM, _ENOSYS = c.SECCOMP_RET_ERRNO | errno.EPERM, c.SECCOMP_RET_ERRNO | errno.ENOSYS
_KILL = 0x8000_0000  # SECCOMP_RET_KILL_PROCESS
_RLIMIT_CORE = 4
_NEW_NAMESPACES = 0x7E02_0080
_AF_UNIX, _AF_INETS = 1, (2, 10)
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15

# What the interpreter, malloc, threads and the deadline need, whatever is called. openat and the
# like are not among them: they come with the calls about paths.
_ALWAYS = """
    read write close fstat lseek mmap mprotect munmap mremap brk madvise futex poll ppoll
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigtimedwait sigaltstack
    restart_syscall tgkill getpid gettid getppid exit exit_group clock_gettime clock_nanosleep
    sched_yield getrandom
    timer_create timer_settime timer_delete signalfd4 set_robust_list rseq set_tid_address
    fcntl getuid geteuid getgid getegid kill waitid wait4 membarrier
"""


def close(view: View, *, network: bool = False) -> None:
    """
    Close the jail around this process, which has one thread. It cannot be opened again.

    network  whether the program may have sockets, of its own network or the host's
    Where the kernel has no Landlock, files and signals are limited only by what the user may do.
    Raises KernelError.
    """
    calls.prlimit(0, _RLIMIT_CORE, 0, 0)
    calls.prctl(c.PR_SET_DUMPABLE, 0, name="PR_SET_DUMPABLE")
    calls.prctl(c.PR_SET_NO_NEW_PRIVS, 1, name="PR_SET_NO_NEW_PRIVS")
    if landlock.version():
        landlock.restrict(
            ((fd, stat.S_ISDIR(os.fstat(fd).st_mode), writable) for fd, writable in view.places()),
            network=network,
        )
    calls.capset(0, 0, 0)
    calls.seccomp_filter(program(network=network), 0)


def program(*, network: bool = False) -> bytes:
    """The seccomp filter, an array of struct sock_filter."""
    machine = os.uname().machine
    numbers = {name: number for number, name in BY_MACHINE[machine].items()}
    allowed = allowed_calls(network=network)
    code = [
        _jump(c.BPF_LD_W_ABS, _ARCH), _jump(c.BPF_JEQ_K, _ARCHITECTURES[machine], 1, 0),
        _jump(c.BPF_RET_K, _KILL), _jump(c.BPF_LD_W_ABS, _NR),
    ]  # fmt: skip
    if machine == "x86_64":
        code += [_jump(c.BPF_JSET_K, _X32, 0, 1), _jump(c.BPF_RET_K, _EPERM)]
    checks = _checks(network=network)
    for name, check in checks.items():  # KVM_RUN comes here, so this is before the long list
        code += [_jump(c.BPF_JEQ_K, numbers[name], 0, len(check)), *check]
    for name in sorted(allowed - checks.keys()):
        if name in numbers:  # aarch64 has no open(2), for instance
            code += [
                _jump(c.BPF_JEQ_K, numbers[name], 0, 1),
                _jump(c.BPF_RET_K, c.SECCOMP_RET_ALLOW),
            ]
    code.append(_jump(c.BPF_RET_K, _EPERM))
    return b"".join(code)


def allowed_calls(*, network: bool = False) -> set[str]:
    """The names of the calls that the filter allows, some for certain arguments only."""
    needed = set(_ALWAYS.split()) | _checks().keys()
    for module in {call.function.__module__ for call in TABLE.values()}:
        needed |= calls_of(module)
    return needed | set(NETWORK.split()) if network else needed


def _checks(*, network: bool = False) -> dict[str, list[bytes]]:
    """Calls that are allowed for some arguments: what decides, after which nothing is checked."""
    requests = [*abi.IOCTL.values(), *REQUESTS]
    return {
        "ioctl": _one_of(1, requests),
        "clone": _without(0, _NEW_NAMESPACES),  # a guest's fork forks its monitor
        "clone3": [_jump(c.BPF_RET_K, _ENOSYS)],  # its flags are in memory; libc then uses clone
        "socket": _one_of(0, [_AF_UNIX, *(_AF_INETS if network else ())]),
        "socketpair": _one_of(0, [_AF_UNIX]),
        "prctl": _one_of(0, [_PR_SET_PDEATHSIG, _PR_SET_NAME]),
    }


def _one_of(argument: int, values: Iterable[int]) -> list[bytes]:
    """Allow the call if this argument, whose 32 lower bits count, has one of these values."""
    code = [_jump(c.BPF_LD_W_ABS, _ARGUMENTS + 8 * argument)]
    for value in dict.fromkeys(values):
        code += [_jump(c.BPF_JEQ_K, value, 0, 1), _jump(c.BPF_RET_K, c.SECCOMP_RET_ALLOW)]
    return [*code, _jump(c.BPF_RET_K, _EPERM)]


def _without(argument: int, bits: int) -> list[bytes]:
    """Allow the call if this argument has none of these bits."""
    return [
        _jump(c.BPF_LD_W_ABS, _ARGUMENTS + 8 * argument), _jump(c.BPF_JSET_K, bits, 0, 1),
        _jump(c.BPF_RET_K, _EPERM), _jump(c.BPF_RET_K, c.SECCOMP_RET_ALLOW),
    ]  # fmt: skip


def _jump(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    """One struct sock_filter."""
    return struct.pack("<HBBI", code, yes, no, value)
