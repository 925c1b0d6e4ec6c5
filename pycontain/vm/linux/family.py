"""
Calls about processes: fork, wait, groups and sessions, exit.

Each process of the program has a monitor of its own. fork(2) forks the monitor, whose memory the
host copies on write, and makes a new virtual machine over it.
"""

from __future__ import annotations

import _thread
import errno
import os
import select

from ...kernel.descriptors import close_owned
from . import pids, signals, threads
from .channels import host as call_host
from .layout import signed, words
from .waiting import wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .pids import Pids
    from .task import Process, Task

_CLONE_VM, _CLONE_VFORK, _CLONE_THREAD, _CLONE_SETTLS = 0x100, 0x4000, 0x1_0000, 0x8_0000
_CLONE_PARENT_SETTID, _CLONE_CHILD_CLEARTID, _CLONE_CHILD_SETTID = 0x10_0000, 0x20_0000, 0x100_0000
_CLONE_FS, _CLONE_FILES = 0x200, 0x400
_CLONE_NEW = 0x7E02_0080  # every kind of namespace
_WNOHANG, _WUNTRACED, _WEXITED, _WCONTINUED, _WNOWAIT = 1, 2, 4, 8, 0x0100_0000
_WAIT3, _CONTINUED = 0x7F, 0xFFFF
_P_ALL, _P_PID, _P_PGID = 0, 1, 2
_PRCTL, _PR_SET_PDEATHSIG = 157, 1
_LENT = 8192  # bytes, which fit into a pipe


def getpid(task: Task) -> int:
    return task.pid


def gettid(task: Task) -> int:
    return task.tid


def getppid(task: Task) -> int:
    parent = task.process.pids.get(task.pid, pids.PARENT)
    return parent or int(task.pid != 1)  # those whose parent has ended are init's


def set_tid_address(task: Task, address: int) -> int:
    task.clear_child_tid = address
    return task.tid


# --- fork ----------------------------------------------------------------------------------------


def fork(task: Task) -> int:
    return clone(task, signals.SIGCHLD, 0, 0, 0, 0)


def vfork(task: Task) -> int:
    return clone(task, _CLONE_VM | _CLONE_VFORK | signals.SIGCHLD, 0, 0, 0, 0)


def clone3(task: Task, arguments: int, size: int) -> int:
    if size < 64:
        raise OSError(errno.EINVAL, "")
    data = task.space.read(arguments, 64)
    given = [int.from_bytes(data[at : at + 8], "little") for at in range(0, 64, 8)]
    flags, _, child, parent, number, stack, length, tls = given
    return clone(task, flags | number, stack + length if stack else 0, parent, child, tls)


def clone(task: Task, flags: int, stack: int, parent: int, child: int, tls: int) -> int:
    """The order of the arguments is that of x86-64."""
    if flags & _CLONE_NEW:
        raise OSError(errno.EPERM, "")
    if flags & _CLONE_THREAD:
        return threads.clone(task, flags, stack, parent, child, tls)
    if flags & (_CLONE_VM | _CLONE_FILES | _CLONE_FS) and not flags & _CLONE_VFORK:
        raise OSError(errno.ENOSYS, "")
    process = task.process
    pid = process.pids.add()
    before = task.cpu.registers(), task.cpu.extended()
    shares = flags & _CLONE_VFORK and flags & _CLONE_VM
    lent = Lent(task, before[0]["rsp"]) if shares else None
    host = os.fork()
    if not host:
        _begin(task, pid, *before)
        process.lent = lent
        registers = before[0]
        if stack:
            registers["rsp"] = stack
        registers["rax"] = 0
        task.cpu.set_registers(registers)
        task.jumped = True
        if flags & _CLONE_SETTLS:
            task.cpu.set_thread_pointer(tls)
        if flags & _CLONE_CHILD_SETTID:
            task.space.write(child, pid.to_bytes(4, "little"))
        task.clear_child_tid = child if flags & _CLONE_CHILD_CLEARTID else 0
        return 0
    process.pids.set(pid, pids.HOST, host)
    process.children[pid] = os.pidfd_open(host)
    if flags & _CLONE_PARENT_SETTID:
        task.space.write(parent, pid.to_bytes(4, "little"))
    if flags & _CLONE_VFORK:
        _wait_for_exec(task, pid)
    if lent:
        lent.take_back()
    return pid


class Lent:
    """
    The top of the stack, which a child of vfork(2) shares: posix_spawn(3) reports errors there.

    The child's monitor has a copy. What is in it when the child ends without execve(2) is given
    back.
    """

    def __init__(self, task: Task, address: int) -> None:
        self._space = task.space
        self._address = address
        self._length = min(_LENT, task.space.room(address))
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC)

    def give_back(self) -> None:
        """In the child, which ends without execve(2)."""
        os.write(self._writer, self._space.read(self._address, self._length))
        self.keep()

    def keep(self) -> None:
        """In the child: the parent gets nothing more."""
        close_owned(self, "_writer", "_reader")

    def take_back(self) -> None:
        """In the parent."""
        close_owned(self, "_writer")
        data = os.read(self._reader, _LENT)
        close_owned(self, "_reader")
        self._space.write(self._address, data)


def _begin(task: Task, pid: int, registers: dict[str, int], extended: bytes) -> None:
    """What the child's monitor does first."""
    process = task.process
    if task.thread == process.pids.get(process.pids.own, pids.HOST):
        # it follows the thread that forked, so it is for the first one alone; prctl(2)
        call_host(_PRCTL, _PR_SET_PDEATHSIG, signals.SIGKILL)
    for pidfd in (*process.children.values(), *process.reaped):
        os.close(pidfd)
    process.children, process.reaped = {}, []
    process.forked = True
    process.actions.is_init = False
    process.unserved = {}
    process.bell.close()
    process.timers = signals.Timers()
    process.deadline.forked()
    process.clocks.forked()
    process.tasks = {pid: task}
    process.waiters.clear()
    task.tid, task.thread, task.robust = pid, _thread.get_native_id(), 0
    task.directed.clear()
    table = process.pids
    table.own = pid
    table.set(pid, pids.HOST, os.getpid())
    if os.getppid() != table.get(table.get(pid, pids.PARENT), pids.HOST):
        os._exit(0)  # the parent has ended before it could be watched
    task.cpu.renew(registers, extended)
    process.show_self(task.cpu)


def _wait_for_exec(task: Task, pid: int) -> None:
    """vfork(2): the parent goes on when the child has called execve(2) or exit(2)."""
    table, process = task.process.pids, task.process
    poll = select.poll()
    poll.register(process.children[pid], select.POLLIN)
    poll.register(process.bell.open(), select.POLLIN)
    while table.get(pid, pids.STATE) == pids.LIVE and not table.get(pid, pids.EXECUTED):
        process.lock.release()
        try:
            found = poll.poll(100)
        finally:
            process.lock.acquire()
        if any(fd == process.children.get(pid) for fd, _ in found):
            return
        signals.receive(process)
        process.notice()
        if process.ending or task.ended:
            return
    task.attention = True


# --- the end -------------------------------------------------------------------------------------


def leave(process: Process) -> None:
    """A process has ended: tell its parent. A forked monitor ends with its last child."""
    table, own = process.pids, process.pids.own
    assert process.ending
    for child in table.children(own):
        table.set(child, pids.PARENT, 0)
        if table.get(child, pids.STATE) == pids.ENDED:
            table.remove(child)
    if process.lent:
        process.lent.give_back()
    table.set(own, pids.STATUS, process.ending.wait_status())
    parent = table.get(own, pids.PARENT)
    waited_for = parent and not table.get(parent, pids.REAPS)
    table.set(own, pids.STATE, pids.ENDED if waited_for else pids.FREE)
    if parent:
        table.post(parent, signals.SIGCHLD, 1)
    process.files.close_all()
    for pidfd in (*process.children.values(), *process.reaped):
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll()
    os._exit(0)


def end_all(process: Process) -> None:
    """The first process has ended: so do all others, whose monitors are killed."""
    table = process.pids
    for pid in list(table.all()):
        if pid != 1 and table.get(pid, pids.HOST):
            try:
                os.kill(table.get(pid, pids.HOST), signals.SIGKILL)
            except ProcessLookupError:
                pass
    for pidfd in (*process.children.values(), *process.reaped):
        try:
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        except ChildProcessError:
            pass
        os.close(pidfd)
    process.children, process.reaped = {}, []


# --- wait ----------------------------------------------------------------------------------------


def wait4(task: Task, pid: int, status: int, options: int, usage: int) -> int:
    if options & ~0xE000_000B:
        raise OSError(errno.EINVAL, "")
    found = _wait(task, signed(pid, 32), options | _WEXITED)
    if not found:
        return 0
    child, value = found
    if status:
        task.space.write(status, value.to_bytes(4, "little"))
    if usage:
        task.space.write(usage, bytes(144))
    return child


def waitid(task: Task, kind: int, number: int, about: int, options: int, usage: int) -> int:
    wanted = {_P_ALL: -1, _P_PID: signed(number, 32), _P_PGID: -signed(number, 32)}
    if kind not in wanted or not options & (_WEXITED | _WUNTRACED | _WCONTINUED):
        raise OSError(errno.EINVAL, "")
    found = _wait(task, wanted[kind], options)
    if about:
        data = bytes(128)
        if found:
            child, value = found
            stopped = value & 0xFF == _WAIT3
            code = 6 if value == _CONTINUED else 5 if stopped else 2 if value & 0x7F else 1
            shown = value >> 8 & 0xFF if stopped or not value & 0x7F else value & 0x7F
            head = (17, 0, code, 0, child, 0, 18 if value == _CONTINUED else shown)
            data = b"".join(word.to_bytes(4, "little") for word in head).ljust(128, b"\0")
        task.space.write(about, data)
    if usage:
        task.space.write(usage, bytes(144))
    return 0


def _wait(task: Task, wanted: int, options: int) -> tuple[int, int] | None:
    """A child that has changed and its wait status, or None with WNOHANG. Raises OSError."""
    process = task.process
    while True:
        children = _matching(process.pids, task.pid, wanted)
        if not children:
            raise OSError(errno.ECHILD, "")
        for child in children:
            status = _change(process, child, options)
            if status is not None:
                return child, status
        if options & _WNOHANG:
            return None
        watched = [process.children[child] for child in children if child in process.children]
        wait(
            task, [(pidfd, select.POLLIN) for pidfd in watched],
            until=lambda: _any_change(process, children, options | _WNOWAIT),  # noqa: B023
        )  # fmt: skip


def _any_change(process: Process, children: list[int], options: int) -> bool:
    return any(_change(process, child, options) is not None for child in children)


def _matching(table: Pids, own: int, wanted: int) -> list[int]:
    children = table.children(own)
    if wanted > 0:
        return [child for child in children if child == wanted]
    if wanted == -1:
        return children
    group = -wanted if wanted else table.get(own, pids.GROUP)
    return [child for child in children if table.get(child, pids.GROUP) == group]


def _change(process: Process, child: int, options: int) -> int | None:
    """The wait status of a child if it has changed in a way that is asked for."""
    table = process.pids
    state = table.get(child, pids.STATE)
    pidfd = process.children.get(child, -1)
    if state != pids.ENDED and pidfd >= 0 and _is_over(pidfd):
        if table.get(child, pids.STATE) != pids.ENDED:  # its monitor was killed
            table.set(child, pids.STATUS, signals.SIGKILL)
            table.set(child, pids.STATE, pids.ENDED)
        state = pids.ENDED
    if state == pids.ENDED:
        if not options & _WEXITED:
            return None
        status = table.get(child, pids.STATUS)
        if not options & _WNOWAIT:
            _reap(process, child, pidfd)
        return status
    asked = _WUNTRACED if state == pids.STOPPED else _WCONTINUED
    if table.get(child, pids.CHANGED) and options & asked:
        if not options & _WNOWAIT:
            table.set(child, pids.CHANGED, 0)
        return table.get(child, pids.STATUS)
    return None


def _is_over(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _reap(process: Process, child: int, pidfd: int) -> None:
    process.pids.remove(child)
    if pidfd >= 0:
        process.reaped.append(process.children.pop(child))
    for old in list(process.reaped):
        if os.waitid(os.P_PIDFD, old, os.WEXITED | os.WNOHANG):
            os.close(old)
            process.reaped.remove(old)


# --- groups and sessions -------------------------------------------------------------------------


def getpgid(task: Task, pid: int) -> int:
    return _field(task, pid, pids.GROUP)


def getpgrp(task: Task) -> int:
    return _field(task, 0, pids.GROUP)


def getsid(task: Task, pid: int) -> int:
    return _field(task, pid, pids.SESSION)


def _field(task: Task, pid: int, field: int) -> int:
    number = signed(pid, 32) or task.pid
    if not task.process.pids.alive(number):
        raise OSError(errno.ESRCH, "")
    return task.process.pids.get(number, field)


def setpgid(task: Task, pid: int, group: int) -> int:
    table = task.process.pids
    number, wanted = signed(pid, 32) or task.pid, signed(group, 32)
    if wanted < 0:
        raise OSError(errno.EINVAL, "")
    wanted = wanted or number
    if number != task.pid and number not in table.children(task.pid):
        raise OSError(errno.ESRCH, "")
    if number != task.pid and table.get(number, pids.EXECUTED):
        raise OSError(errno.EACCES, "")
    session = table.get(task.pid, pids.SESSION)
    if table.get(number, pids.SESSION) in (number,) or table.get(number, pids.SESSION) != session:
        raise OSError(errno.EPERM, "")
    if wanted != number and not any(
        table.get(other, pids.GROUP) == wanted and table.get(other, pids.SESSION) == session
        for other in table.all()
    ):
        raise OSError(errno.EPERM, "")
    table.set(number, pids.GROUP, wanted)
    return 0


def setsid(task: Task) -> int:
    table, own = task.process.pids, task.pid
    if any(table.get(other, pids.GROUP) == own for other in table.all()):
        raise OSError(errno.EPERM, "")
    table.set(own, pids.GROUP, own)
    table.set(own, pids.SESSION, own)
    return own


def no_usage(task: Task, _which: int, address: int) -> int:
    task.space.write(address, words(0, 0) + bytes(128))
    return 0
