"""Calls about signals."""

from __future__ import annotations

import errno

from . import frame, pids
from .clock import duration
from .ending import Interrupted
from .layout import signed
from .signals import (
    IGNORE,
    NEVER_CAUGHT,
    SA_NOCLDWAIT,
    SI_TKILL,
    SIGCHLD,
    SS_DISABLE,
    SS_ONSTACK,
    UNBLOCKABLE,
    Action,
    direct,
    pending,
    send,
    take,
)
from .waiting import wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .task import Task

_BLOCK, _UNBLOCK, _SET = 0, 1, 2
_SIGKILL, _SIGSEGV = 9, 11
_MINSIGSTKSZ = 2048
_AUTODISARM = 1 << 31


def rt_sigaction(task: Task, signal: int, new: int, old: int, size: int) -> int:
    actions = task.process.actions
    if size != 8 or not 0 < signal <= 64 or (new and signal in NEVER_CAUGHT):
        return -errno.EINVAL
    action = None
    if new:
        data = task.space.read(new, 32)
        parts = [int.from_bytes(data[at : at + 8], "little") for at in (0, 8, 16, 24)]
        if task.process.machine != "x86_64":  # no restorer elsewhere
            parts[2], parts[3] = 0, parts[2]
        action = Action(handler=parts[0], flags=parts[1], restorer=parts[2], mask=parts[3])
    if old:
        was = actions.get(signal)
        words = [was.handler, was.flags, was.restorer, was.mask]
        if task.process.machine != "x86_64":
            words = [was.handler, was.flags, was.mask, 0]
        task.space.write(old, b"".join(word.to_bytes(8, "little") for word in words))
    if action:
        actions.set(signal, action)
        if signal == SIGCHLD:
            reaps = action.handler == IGNORE or action.flags & SA_NOCLDWAIT
            task.process.pids.set(task.pid, pids.REAPS, int(bool(reaps)))
    return 0


def _mask(task: Task, address: int, size: int) -> int:
    """A sigset_t. Raises OSError with EINVAL for another size, BadAddress."""
    if size != 8:
        raise OSError(errno.EINVAL, "")
    return int.from_bytes(task.space.read(address, 8), "little")


def rt_sigprocmask(task: Task, how: int, new: int, old: int, size: int) -> int:
    if size != 8:
        return -errno.EINVAL
    before = task.mask
    if new:
        given = _mask(task, new, size) & ~UNBLOCKABLE
        masks = {_BLOCK: before | given, _UNBLOCK: before & ~given, _SET: given}
        if how not in masks:
            return -errno.EINVAL
        task.mask = masks[how]
        task.attention = True
    if old:
        task.space.write(old, before.to_bytes(8, "little"))
    return 0


def rt_sigpending(task: Task, address: int, size: int) -> int:
    if size > 8:
        return -errno.EINVAL
    bits = sum(1 << signal - 1 for signal in pending(task)) & task.mask
    task.space.write(address, bits.to_bytes(8, "little")[:size])
    return 0


def rt_sigsuspend(task: Task, address: int, size: int) -> int:
    mask = _mask(task, address, size)
    task.restored_mask, task.mask = task.mask, mask & ~UNBLOCKABLE
    wait(task, restart=False)
    raise AssertionError("nothing else ends it")


def pause(task: Task) -> int:
    wait(task, restart=False)
    raise AssertionError("nothing else ends it")


def rt_sigtimedwait(task: Task, wanted: int, about: int, timeout: int, size: int) -> int:
    mask = _mask(task, wanted, size)
    seconds = duration(task, timeout) / 1e9 if timeout else None
    before = task.mask
    task.mask &= ~mask  # so that wait() ends for them
    try:
        signal = _taken(task, mask)
        if not signal:
            wait(task, (), seconds, restart=False)
            raise OSError(errno.EAGAIN, "")
    except Interrupted:
        signal = _taken(task, mask)
        if not signal:
            raise
    finally:
        task.mask = before
    if about:
        table = task.process.pids
        sender = table.get(signal[2], pids.STATUS)
        task.space.write(about, frame.information(*signal, sender))
    return signal[0]


def _taken(task: Task, mask: int) -> tuple[int, int, int] | None:
    """Take a pending signal of a set: its number, si_code and sender."""
    for signal in sorted(pending(task)):
        if mask >> signal - 1 & 1:
            return signal, *take(task, signal)
    return None


def sigaltstack(task: Task, new: int, old: int) -> int:
    base, flags, size = task.stack
    inside = base <= task.cpu.registers().get("rsp", 0) < base + size
    if old:
        shown = SS_ONSTACK if inside and not flags & SS_DISABLE else flags
        data = base.to_bytes(8, "little") + shown.to_bytes(8, "little") + size.to_bytes(8, "little")
        task.space.write(old, data)
    if new:
        data = task.space.read(new, 24)
        wanted = [
            int.from_bytes(data[at : at + size], "little") for at, size in ((0, 8), (8, 4), (16, 8))
        ]
        if inside and not flags & SS_DISABLE:
            return -errno.EPERM
        if wanted[1] & ~(SS_DISABLE | SS_ONSTACK | _AUTODISARM):
            return -errno.EINVAL
        if wanted[1] & SS_DISABLE:
            wanted = [0, SS_DISABLE, 0]
        elif wanted[2] < _MINSIGSTKSZ:
            return -errno.ENOMEM
        task.stack = wanted[0], wanted[1] & ~SS_ONSTACK, wanted[2]
    return 0


def rt_sigreturn(task: Task) -> int:
    try:
        mask = frame.pop(task)
    except ValueError:
        task.process.kill(_SIGSEGV, "the program has returned from a handler to nothing")
        return 0
    task.mask = mask & ~UNBLOCKABLE
    task.jumped = task.attention = True
    return 0


# --- sending -------------------------------------------------------------------------------------


def kill(task: Task, pid: int, signal: int) -> int:
    table, number = task.process.pids, signed(pid, 32)
    if not 0 <= signal <= 64:
        return -errno.EINVAL
    if number > 0:
        targets = [number] if table.alive(number) else []
    elif number == -1:
        targets = [other for other in table.all() if other not in (1, task.pid)]
    else:
        group = -number if number else table.get(task.pid, pids.GROUP)
        targets = [other for other in table.all() if table.get(other, pids.GROUP) == group]
    if not targets:
        return -errno.ESRCH
    for target in targets if signal else ():
        _send(task, target, signal, 0)
    return 0


def _send(task: Task, target: int, signal: int, code: int) -> None:
    if target == task.pid:
        send(task, signal, code)
    else:
        task.process.pids.post(target, signal, code)


def tkill(task: Task, thread: int, signal: int) -> int:
    return tgkill(task, 0, thread, signal)


def tgkill(task: Task, pid: int, thread: int, signal: int) -> int:
    if not 0 <= signal <= 64 or thread <= 0 or pid < 0:
        return -errno.EINVAL
    process = task.process.pids.process_of(thread)
    if not process or (pid and pid != process):
        return -errno.ESRCH
    own = task.process.tasks.get(thread) if process == task.pid else None
    if signal and own:
        direct(task, own, signal, SI_TKILL)
    elif signal:
        _send(task, process, signal, SI_TKILL)
    return 0


def rt_sigqueueinfo(task: Task, pid: int, signal: int, about: int) -> int:
    code = int.from_bytes(task.space.read(about + 8, 4), "little", signed=True)
    if code >= 0 and pid != task.pid:
        return -errno.EPERM
    return kill(task, pid, signal)


def rt_tgsigqueueinfo(task: Task, pid: int, thread: int, signal: int, about: int) -> int:
    code = int.from_bytes(task.space.read(about + 8, 4), "little", signed=True)
    if code >= 0 and pid != task.pid:
        return -errno.EPERM
    return tgkill(task, pid, thread, signal)
