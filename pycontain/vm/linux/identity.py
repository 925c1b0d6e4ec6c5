"""Calls about who a program is and what it may use: one user, without a capability."""

from __future__ import annotations

import errno
import os

from .layout import signed, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .task import Task

RELEASE = "5.14.0-pycontain"  # not the host's kernel; glibc requires 3.2 or later
_VERSION = "#1 system calls served by pycontain"
_STACK_LIMIT = 8 << 20
_INFINITY = (1 << 64) - 1
_RLIMIT_STACK, _RLIMIT_NOFILE, _RLIMITS = 3, 7, 16
_ARCH_SET_FS, _ARCH_GET_FS = 0x1002, 0x1003
_RANDOM_MAX = 1 << 20
_PR_SET_NAME, _PR_GET_NAME, _PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 15, 16, 3, 4
_PR_SET_PDEATHSIG, _PR_CAPBSET_READ, _PR_SET_NO_NEW_PRIVS, _PR_GET_NO_NEW_PRIVS = 1, 23, 38, 39
_PR_SET_VMA = 0x5356_4D41
_CAP_LAST = 40


def uname(task: Task, address: int) -> int:
    user = task.process.user
    fields = (
        "Linux", user.hostname, RELEASE, _VERSION, task.process.machine, user.domainname,
    )  # fmt: skip
    task.space.write(address, b"".join(text.encode().ljust(65, b"\0") for text in fields))
    return 0


def arch_prctl(task: Task, code: int, value: int) -> int:
    if code == _ARCH_GET_FS:
        task.space.write(value, words(task.cpu.thread_pointer()))
        return 0
    if code != _ARCH_SET_FS:
        return -errno.EINVAL
    if value >> 47:
        return -errno.EPERM
    task.cpu.set_thread_pointer(value)
    return 0


def prlimit64(task: Task, pid: int, resource: int, new: int, old: int) -> int:
    if pid not in (0, task.pid):
        return -errno.ESRCH
    if resource >= _RLIMITS:
        return -errno.EINVAL
    limits = task.process.limits
    soft, hard = limits.get(resource, _LIMITS.get(resource, (_INFINITY, _INFINITY)))
    data = task.space.read(new, 16) if new else b""
    if old:
        task.space.write(old, words(soft, hard))
    if data:
        wanted, most = (int.from_bytes(data[at : at + 8], "little") for at in (0, 8))
        if wanted > most:
            return -errno.EINVAL
        if most > hard:
            return -errno.EPERM
        limits[resource] = wanted, most
    return 0


def getrlimit(task: Task, resource: int, address: int) -> int:
    return prlimit64(task, 0, resource, 0, address)


def setrlimit(task: Task, resource: int, address: int) -> int:
    return prlimit64(task, 0, resource, address, 0)


_LIMITS = {_RLIMIT_STACK: (_STACK_LIMIT, _INFINITY), _RLIMIT_NOFILE: (1024, 1024)}


def getrandom(task: Task, address: int, length: int, flags: int) -> int:
    if flags & ~7:
        raise OSError(errno.EINVAL, "")
    length = min(length, _RANDOM_MAX)
    task.space.write(address, os.urandom(length))
    return length


def getuid(task: Task) -> int:
    return task.process.user.uid


def getgid(task: Task) -> int:
    return task.process.user.gid


def _stay(own: int, *wanted: int) -> int:
    """setuid(2) and its relatives: the program stays who it is."""
    if any(number & 0xFFFF_FFFF not in (own, 0xFFFF_FFFF) for number in wanted):
        raise OSError(errno.EPERM, "")
    return 0


def setuid(task: Task, real: int) -> int:
    return _stay(task.process.user.uid, real)


def setgid(task: Task, real: int) -> int:
    return _stay(task.process.user.gid, real)


def setreuid(task: Task, real: int, effective: int) -> int:
    return _stay(task.process.user.uid, real, effective)


def setregid(task: Task, real: int, effective: int) -> int:
    return _stay(task.process.user.gid, real, effective)


def setresuid(task: Task, real: int, effective: int, saved: int) -> int:
    return _stay(task.process.user.uid, real, effective, saved)


def setresgid(task: Task, real: int, effective: int, saved: int) -> int:
    return _stay(task.process.user.gid, real, effective, saved)


def getresuid(task: Task, real: int, effective: int, saved: int) -> int:
    for address in (real, effective, saved):
        task.space.write(address, task.process.user.uid.to_bytes(4, "little"))
    return 0


def getresgid(task: Task, real: int, effective: int, saved: int) -> int:
    for address in (real, effective, saved):
        task.space.write(address, task.process.user.gid.to_bytes(4, "little"))
    return 0


def getgroups(task: Task, size: int, address: int) -> int:
    groups, room = task.process.user.groups, signed(size, 32)
    if room < 0 or 0 < room < len(groups):
        raise OSError(errno.EINVAL, "")
    if room:
        task.space.write(address, b"".join(group.to_bytes(4, "little") for group in groups))
    return len(groups)


def setgroups(_: Task, count: int) -> int:
    if count:
        raise OSError(errno.EPERM, "")
    return 0


def capget(task: Task, header: int, data: int) -> int:
    task.space.write(header, (0x2008_0522).to_bytes(4, "little"))
    if data:
        task.space.write(data, bytes(24))
    return 0


def prctl(task: Task, option: int, value: int) -> int:
    if option == _PR_SET_NAME:
        task.process.name = task.space.text(value)[:15]
    elif option == _PR_GET_NAME:
        task.space.write(value, task.process.name.ljust(16, b"\0"))
    elif option not in _ANSWERS or (option == _PR_CAPBSET_READ and value > _CAP_LAST):
        raise OSError(errno.EINVAL, "")
    return _ANSWERS.get(option, 0)


_ANSWERS = {
    _PR_GET_DUMPABLE: 1, _PR_SET_DUMPABLE: 0, _PR_SET_PDEATHSIG: 0, _PR_CAPBSET_READ: 0,
    _PR_SET_NO_NEW_PRIVS: 0, _PR_GET_NO_NEW_PRIVS: 1, _PR_SET_VMA: 0,
}  # fmt: skip


def sysinfo(task: Task, address: int) -> int:
    clocks = task.process.clocks
    total, free = task.process.memory, task.space.free()
    seconds = clocks.now(1) // 10**9
    head = words(seconds, 0, 0, 0, total, free, 0, 0, 0, 0)
    processes = len(list(task.process.pids.all())).to_bytes(8, "little")
    task.space.write(address, (head + processes + words(0, 0, 1)).ljust(112, b"\0"))
    return 0


def sched_getaffinity(task: Task, _pid: int, size: int, address: int) -> int:
    if size < 8 or size % 8:
        raise OSError(errno.EINVAL, "")
    task.space.write(address, words((1 << task.process.cpus) - 1))
    return 8


def sched_setaffinity(task: Task, _pid: int, size: int, address: int) -> int:
    cpus = task.process.cpus
    if not int.from_bytes(task.space.read(address, min(size, 128)), "little") & (1 << cpus) - 1:
        raise OSError(errno.EINVAL, "")
    return 0


def getcpu(task: Task, cpu: int, node: int) -> int:
    for address in (cpu, node):
        if address:
            task.space.write(address, bytes(4))
    return 0


def refused(_: Task) -> int:
    """A call that programs try and do without: older kernels lack it."""
    raise OSError(errno.ENOSYS, "")


def nothing(_: Task) -> int:
    """A call that may be without effect."""
    return 0
