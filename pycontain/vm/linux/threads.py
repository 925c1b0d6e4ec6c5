"""
Threads of a process: clone(2) with CLONE_THREAD, their end, and what they leave behind.

Each has a processor of the one virtual machine and a thread of the monitor.
"""

from __future__ import annotations

import errno
import os
import time

from ...errors import KernelError
from ..frames import OutOfFrames
from ..space import BadAddress
from . import futex
from .channels import host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..cpu import Fault
    from .task import Task

_SETTLS, _PARENT_SETTID = 0x8_0000, 0x10_0000
_CHILD_CLEARTID, _CHILD_SETTID = 0x20_0000, 0x100_0000
SHARES = 0x1_0F00  # CLONE_VM, _FS, _FILES, _SIGHAND and _THREAD, which come together
_RETRIES = 100

# get_robust_list(2), and linux/futex.h
_ROBUST_MAX = 2048
_OWNER_DIED_BIT, _TID = 30, 0x3FFF_FFFF
_MEMBARRIER = 324 if os.uname().machine == "x86_64" else 283
_FUTEX, _WAKE_OP, _OP_OR_BIT, _OP_ANDN = 202, 5, 0xA000_0000, 0x3000_0000


def clone(task: Task, flags: int, stack: int, parent: int, child: int, tls: int) -> int:
    """A thread. Raises OSError: EAGAIN for too many, ENOSYS where the engine runs only one."""
    if flags & SHARES != SHARES:
        raise OSError(errno.EINVAL, "")
    process, space = task.process, task.space
    tid = process.pids.add(thread=True)
    try:
        new = _make(task, tid)
        registers = task.cpu.registers()
        registers["rax"] = 0
        registers["rsp"] = stack or registers["rsp"]
        new.cpu.set_registers(registers)
        if flags & _SETTLS:
            new.cpu.set_thread_pointer(tls)
        for flag, address in ((_PARENT_SETTID, parent), (_CHILD_SETTID, child)):
            if flags & flag:
                space.write(address, tid.to_bytes(4, "little"))
        new.clear_child_tid = child if flags & _CHILD_CLEARTID else 0
        process.start(new)
    except BaseException as error:
        process.tasks.pop(tid, None)
        process.pids.remove(tid)
        if isinstance(error, (OutOfFrames, KernelError, RuntimeError)):
            raise OSError(errno.EAGAIN, "") from None
        raise
    if task.files.window:  # one thread alone could tell what is in it
        task.files.window.pause()
        task.files.window = None
    if process.quick:
        task.cpu.show_numbers(process.pids.own, 0)
    return tid


def _make(task: Task, tid: int) -> Task:
    cpu = task.cpu.sibling()
    if cpu is None:
        unserved = task.process.unserved
        name = "clone of a thread (use --engine kvm)"
        unserved[name] = unserved.get(name, 0) + 1
        raise OSError(errno.ENOSYS, "")
    new = type(task)(task.process, cpu, tid)
    new.mask = task.mask
    return new


def exit(task: Task, status: int) -> int:  # noqa: A001
    """_exit(2) of one thread; that of the last one ends the process."""
    if len(task.process.tasks) == 1:
        task.process.exit(status)
    task.ended = True
    return 0


def exit_group(task: Task, status: int) -> int:
    task.process.exit(status)
    return 0


def leave(task: Task) -> None:
    """A task is no more. When its process has ended, the others have to leave too."""
    process = task.process
    _release_robust(task)
    if task.clear_child_tid and process.ending is None:
        try:
            task.space.write(task.clear_child_tid, bytes(4))
            futex.wake(task, task.clear_child_tid, 1)
        except (BadAddress, OSError):
            pass
    del process.tasks[task.tid]
    if task.tid != task.pid:
        process.pids.remove(task.tid)
    task.cpu.leave()
    for other in process.tasks.values():
        if process.ending:
            other.kick()
    process.pass_on()


def stop_others(task: Task) -> None:
    """All other threads end, for execve(2), and this one has the number of the process."""
    process = task.process
    for other in process.tasks.values():
        if other is not task:
            other.ended = True
            other.kick()
    while len(process.tasks) > 1:
        process.lock.release()
        time.sleep(2e-4)
        process.lock.acquire()
        process.deadline.check()
    if task.tid != task.pid:
        process.pids.remove(task.tid)
        task.tid = task.pid
        process.tasks = {task.tid: task}


def is_over(task: Task, fault: Fault) -> bool:
    """Whether a page fault came while another thread changed the page, which may now be used."""
    if not fault.access or len(task.process.tasks) == 1:
        return False
    area = task.space.area_at(fault.address)
    if not area or area.frame is None or not area.prot & fault.access:
        return False
    address, count = task.retried
    task.retried = fault.address, count + 1 if address == fault.address else 0
    return task.retried[1] < _RETRIES


def membarrier(_: Task, command: int, flags: int, cpu: int) -> int:
    """The host's, which knows where the threads of this monitor run."""
    return host(_MEMBARRIER, command, flags, cpu)


# --- mutexes of a thread that has ended --------------------------------------------------------


def set_robust_list(task: Task, head: int, size: int) -> int:
    if size != 24:
        raise OSError(errno.EINVAL, "")
    task.robust = head
    return 0


def _release_robust(task: Task) -> None:
    """Mark the mutexes that it holds, and wake one thread at each."""
    try:
        head = task.robust
        following, offset, pending = _pointers(task, head, 3) if head else (head, 0, 0)
        for _ in range(_ROBUST_MAX):
            if following == head:
                break
            entry, following = following, *_pointers(task, following, 1)
            if entry != pending:
                _mark(task, entry + offset)
        if pending:
            _mark(task, pending + offset)
    except (BadAddress, OSError):
        pass


def _pointers(task: Task, address: int, count: int) -> list[int]:
    data = task.space.read(address & ~1, 8 * count)
    return [int.from_bytes(data[at : at + 8], "little") for at in range(0, 8 * count, 8)]


def _mark(task: Task, address: int) -> None:
    """Through the host's futex, which changes a word at once that others may change, too."""
    address &= (1 << 64) - 1  # the offset is signed
    word = int.from_bytes(task.space.read(address, 4), "little")
    if word & _TID == task.tid:
        where = task.space.host(address, 4)
        for operation in (_OP_OR_BIT | _OWNER_DIED_BIT << 12, _OP_ANDN | task.tid << 12):
            host(_FUTEX, where, _WAKE_OP, 0, 0, where, operation)
        futex.wake(task, address, 1)
