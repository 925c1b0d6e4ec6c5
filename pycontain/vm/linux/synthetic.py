"""
Files that are made here: /proc of the program, never of this host, and the usual devices.

Of /sys, only the numbers of processors.

proc(5), null(4). A program finds only processes of its own in /proc.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from ..open_file import Folder, OpenFile, device
from ..paging import EXECUTE, READ, WRITE
from ..space import HIGHEST
from ..view import Found, made_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .task import Task

_FIRST = 1 << 21  # inode numbers, above those of view.py
_DEVICES = {
    b"null": (1, 3), b"zero": (1, 5), b"full": (1, 7), b"random": (1, 8), b"urandom": (1, 9),
}  # fmt: skip
_SYS = b"/sys/devices/system/cpu/"
_LINKS = {b"fd": b"/proc/self/fd", b"stdin": b"/proc/self/fd/0", b"stdout": b"/proc/self/fd/1",
          b"stderr": b"/proc/self/fd/2"}  # fmt: skip


def _parts(task: Task, where: bytes) -> list[bytes] | None:
    """The components of a path that may be made here, links followed; None for all others."""
    if not where.startswith((b"/proc", b"/dev", _SYS)):
        return None
    parts = [part for part in os.path.normpath(where).split(b"/") if part]
    if parts[0] == b"dev" and len(parts) > 1 and parts[1] in _LINKS:
        parts = _LINKS[parts[1]].split(b"/")[1:] + parts[2:]
    if parts[0] not in (b"proc", b"dev", b"sys"):
        return None
    own = b"%d" % task.pid
    if parts[0] == b"proc" and len(parts) > 1 and parts[1] in (b"self", b"thread-self"):
        parts[1] = own
    return parts


def find(task: Task, where: bytes, flags: int) -> Found | None:
    """The status of a file that is made here, or None. Raises OSError with ENOENT in /proc."""
    target = link(task, where)
    if target is not None and flags & os.O_NOFOLLOW:
        return Found(-1, made_status(stat.S_IFLNK | 0o777, 0, _FIRST), _FIRST)
    parts = _parts(task, where)
    if parts is None:
        return None
    if parts[0] == b"dev":
        return _device_status(parts)
    if _descriptor(task, parts) is not None:
        info = task.files.get(_descriptor(task, parts) or 0).status()
        return Found(-1, info, 1, writable=True)
    if len(parts) == 3 and parts[2] in (b"exe", b"root", b"cwd"):
        return task.process.view.find(target or b"/", flags & os.O_DIRECTORY)
    if _entries(task, parts) is not None:
        return Found(-1, made_status(stat.S_IFDIR | 0o555, 0, _FIRST), _FIRST)
    _text(task, parts)
    return Found(-1, made_status(stat.S_IFREG | 0o444, 0, _FIRST), _FIRST)


def _device_status(parts: list[bytes]) -> Found | None:
    if len(parts) != 2 or parts[1] not in _DEVICES:
        return None
    plain = made_status(stat.S_IFCHR | 0o666, 0, _FIRST)
    info = os.stat_result(
        tuple(plain)[:10],
        {
            "st_rdev": os.makedev(*_DEVICES[parts[1]]), "st_blksize": 4096, "st_blocks": 0,
            "st_atime_ns": 0, "st_mtime_ns": 0, "st_ctime_ns": 0,
        },
    )  # fmt: skip
    return Found(-1, info, _FIRST, writable=True)


def link(task: Task, where: bytes) -> bytes | None:
    """Where a symbolic link that is made here leads, or None if it is none."""
    if where in (b"/proc/self", b"/proc/thread-self"):
        return b"%d" % task.pid
    if where.startswith(b"/dev/") and where[5:] in _LINKS:
        return _LINKS[where[5:]]
    parts = _parts(task, where)
    if not parts or parts[0] != b"proc" or len(parts) < 3 or parts[1] != b"%d" % task.pid:
        return None
    number = _descriptor(task, parts)
    if number is not None:
        file = task.files.get(number)
        return file.path or b"pipe:[%d]" % (file.status().st_ino or number)
    if len(parts) == 3:
        files = {b"exe": task.process.executable, b"cwd": task.files.cwd, b"root": b"/"}
        return files.get(parts[2])
    return None


def _descriptor(task: Task, parts: list[bytes]) -> int | None:
    """The number of /proc/self/fd/N. Raises OSError with ENOENT when it is not open."""
    if len(parts) != 4 or parts[2] != b"fd" or parts[1] != b"%d" % task.pid:
        return None
    if not parts[3].isdigit() or not task.files.has(int(parts[3])):
        raise OSError(errno.ENOENT, "")
    return int(parts[3])


def opened(task: Task, where: bytes, flags: int) -> OpenFile | None:
    """Open a file that is made here; None for others. Raises OSError."""
    parts = _parts(task, where)
    if parts is None:
        return None
    if parts[0] == b"dev":
        found = _device_status(parts)
        made = device(found.info) if found else None
        return OpenFile(-1, where, flags, made=made) if made else None
    number = _descriptor(task, parts)
    if number is not None:
        return task.files.get(number)
    if flags & os.O_NOFOLLOW and link(task, where) is not None:
        raise OSError(errno.ELOOP, "")
    if len(parts) == 3 and parts[2] == b"exe":
        with task.process.view.find(task.process.executable) as program:
            return OpenFile(program.open(os.O_RDONLY), task.process.executable, flags, regular=True)
    entries = _entries(task, parts)
    if flags & (os.O_ACCMODE | os.O_CREAT):
        raise OSError(errno.EISDIR if entries is not None else errno.EACCES, "")
    if entries is not None:
        info = made_status(stat.S_IFDIR | 0o555, 0, _FIRST)
        return OpenFile(-1, where, flags, made=Folder(info, entries))
    if flags & os.O_DIRECTORY:
        raise OSError(errno.ENOTDIR, "")
    return OpenFile(_memory_file(_text(task, parts)), where, flags, regular=True, number=_FIRST)


def _memory_file(data: bytes) -> int:
    fd = os.memfd_create("proc", os.MFD_CLOEXEC)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _entries(task: Task, parts: list[bytes]) -> Sequence[bytes] | None:
    """What a directory in /proc contains, or None for other files."""
    own = b"%d" % task.pid
    if parts == [b"proc"]:
        pids = [b"%d" % pid for pid in task.process.pids.all()]
        return [b"self", *pids, *_SYSTEM, b"sys"]
    if len(parts) == 2 and parts[1].isdigit() and task.process.pids.alive(int(parts[1])):
        return [*_OF_PROCESS, b"exe", b"cwd", b"root", b"fd"] if parts[1] == own else [b"stat"]
    if parts == [b"proc", own, b"fd"]:
        return [b"%d" % number for number in task.files.numbers()]
    if parts == [b"proc", own, b"task"]:
        return [b"%d" % tid for tid in task.process.tasks]
    if parts in ([b"proc", b"sys"], [b"proc", b"sys", b"kernel"]):
        return []
    return None


def _text(task: Task, parts: list[bytes]) -> bytes:
    """The content of a file in /proc. Raises OSError with ENOENT."""
    own = b"%d" % task.pid
    if parts[0] == b"sys" and parts[4:] in ([b"online"], [b"possible"], [b"present"]):
        return b"0-%d\n" % (task.process.cpus - 1) if task.process.cpus > 1 else b"0\n"
    if len(parts) == 2 and parts[1] in _SYSTEM:
        return _SYSTEM[parts[1]](task)
    if len(parts) == 3 and parts[1] == own and parts[2] in _OF_PROCESS:
        return _OF_PROCESS[parts[2]](task)
    if len(parts) == 3 and parts[2] == b"stat" and parts[1].isdigit():
        return _stat(task, int(parts[1]))
    if parts[1:2] == [b"sys"] and b"/".join(parts[2:]) in _SYSCTLS:
        return _SYSCTLS[b"/".join(parts[2:])]
    raise OSError(errno.ENOENT, "")


def _maps(task: Task) -> bytes:
    lines = []
    for area in task.space.areas():
        bits = ((READ, "r"), (WRITE, "w"), (EXECUTE, "x"))
        shown = "".join(letter if area.prot & bit else "-" for bit, letter in bits)
        sharing = "s" if area.shared else "p"
        name = "[stack]" if HIGHEST - area.end < 1 << 20 else ""
        line = f"{area.start:x}-{area.end:x} {shown}{sharing} 00000000 00:00 0"
        lines.append(f"{line:73}{name}".rstrip() + "\n")
    return "".join(lines).encode()


def _stat(task: Task, pid: int) -> bytes:
    table = task.process.pids
    from . import pids

    if not table.alive(pid):
        raise OSError(errno.ENOENT, "")
    state = "RRTZ"[table.get(pid, pids.STATE)]
    name = task.process.name.decode(errors="replace") if pid == task.pid else "program"
    fields = [table.get(pid, field) for field in (pids.PARENT, pids.GROUP, pids.SESSION)]
    return f"{pid} ({name}) {state} {' '.join(map(str, fields))} {'0 ' * 45}0\n".encode()


def _status(task: Task) -> bytes:
    from . import pids

    parent = task.process.pids.get(task.pid, pids.PARENT)
    size = sum(area.end - area.start for area in task.space.areas()) >> 10
    name = task.process.name.decode(errors="replace")
    return (
        f"Name:\t{name}\nUmask:\t{task.process.umask:04o}\nState:\tR (running)\n"
        f"Tgid:\t{task.pid}\nPid:\t{task.pid}\nPPid:\t{parent}\nUid:\t0\t0\t0\t0\n"
        f"Gid:\t0\t0\t0\t0\nVmSize:\t{size:8} kB\nVmRSS:\t{size:8} kB\n"
        f"Threads:\t{len(task.process.tasks)}\nSigBlk:\t{task.mask:016x}\n"
        f"Cpus_allowed:\t{(1 << task.process.cpus) - 1:x}\n"
    ).encode()


def _memory(task: Task) -> bytes:
    total, free = task.process.memory >> 10, task.space.free() >> 10
    rows = (("MemTotal", total), ("MemFree", free), ("MemAvailable", free), ("Buffers", 0),
            ("Cached", 0), ("SwapTotal", 0), ("SwapFree", 0))  # fmt: skip
    return "".join(f"{name + ':':15}{value:9} kB\n" for name, value in rows).encode()


def _uptime(task: Task) -> bytes:
    passed = time.monotonic() - task.process.began
    return f"{passed:.2f} {passed:.2f}\n".encode()


def _own_stat(task: Task) -> bytes:
    return _stat(task, task.pid)


def _command(task: Task) -> bytes:
    return b"".join(text + b"\0" for text in task.process.arguments)


def _comm(task: Task) -> bytes:
    return task.process.name + b"\n"


def _cpuinfo(task: Task) -> bytes:
    return b"".join(
        b"processor\t: %d\nvendor_id\t: pycontain\ncpu cores\t: 1\n\n" % number
        for number in range(task.process.cpus)
    )


def _cpu_stat(task: Task) -> bytes:
    names = [b"cpu ", *(b"cpu%d" % number for number in range(task.process.cpus))]
    return b"".join(name + b" 0" * 10 + b"\n" for name in names)


_MOUNTS = b"pycontain / rootfs ro 0 0\nproc /proc proc rw 0 0\n"
_OF_PROCESS: dict[bytes, Callable[[Task], bytes]] = {
    b"maps": _maps,
    b"status": _status,
    b"stat": _own_stat,
    b"cmdline": _command,
    b"comm": _comm,
    b"mounts": lambda _: _MOUNTS,
    b"mountinfo": lambda _: b"1 0 0:1 / / ro - rootfs pycontain ro\n",
    b"cgroup": lambda _: b"0::/\n",
    b"limits": lambda _: b"",
    b"oom_score_adj": lambda _: b"0\n",
}
_SYSTEM: dict[bytes, Callable[[Task], bytes]] = {
    b"meminfo": _memory,
    b"uptime": _uptime,
    b"cpuinfo": _cpuinfo,
    b"stat": _cpu_stat,
    b"loadavg": lambda _: b"0.00 0.00 0.00 1/1 1\n",
    b"version": lambda _: b"Linux version 5.14.0-pycontain\n",
    b"filesystems": lambda _: b"nodev\ttmpfs\nnodev\tproc\n",
    b"mounts": lambda _: _MOUNTS,
}
_SYSCTLS = {
    b"kernel/pid_max": b"255\n", b"kernel/osrelease": b"5.14.0-pycontain\n",
    b"kernel/hostname": b"vm\n", b"kernel/ostype": b"Linux\n", b"kernel/cap_last_cap": b"40\n",
    b"kernel/ngroups_max": b"65536\n", b"vm/overcommit_memory": b"1\n",
    b"vm/mmap_min_addr": b"65536\n", b"vm/max_map_count": b"65530\n",
    b"kernel/random/boot_id": b"00000000-0000-4000-8000-000000000000\n",
    b"fs/pipe-max-size": b"1048576\n", b"net/core/somaxconn": b"128\n",
}  # fmt: skip
