"""
Runs a monitor in a process of its own, which a program's jail can close around.

The caller keeps what is the caller's: functions that take output or a trace are called here, with
what comes through pipes, and the monitor has no other descriptors than the program's and these.

A monitor may fork, as the program does, and whoever takes one over could leave processes behind.
So it runs in a pid namespace, whose end kills them all (pid_namespaces(7)). A user without root may
create none: there they are left, but not waited for.
"""

from __future__ import annotations

import _signal
import _thread
import gc
import os
import select
import time

from ..errors import Fault, GuestError, KernelError, Timeout, fault_of
from ..kernel import calls
from ..kernel import const as c
from ..lean import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    Taker = Callable[[bytes], object]
    Body = Callable[[list[int], dict[str, object]], None]

_CHUNK = 1 << 16
_PIPE_MAX = 1 << 20  # bytes, what a pipe has room for where a page has 64 KiB; pipe(7)
_GRACE = 1.0  # seconds in which a monitor reports that the time is over
_REPORT_MAX = 1 << 20
_PR_SET_PDEATHSIG = 1
_KILLED = 128  # more than that is the exit status for a signal
_forking = _thread.allocate_lock()  # else another thread's child would hold the pipes open


def run(
    body: Body, takers: Sequence[Taker], keep: set[int], timeout: float | None = None
) -> dict[str, object]:
    """
    Run body(pipes, report) in a child; pipes are descriptors, one for each of the takers.

    keep     the descriptors that the child keeps besides
    timeout  seconds in which the body ends by itself; soon afterwards it is killed

    Returns the report, to which "error" is added (Fault.record()) if the body raised one. Raises
    what a taker raises, which ends the child, Timeout, and GuestError when there is no report.
    """
    end = None if timeout is None else time.monotonic() + timeout + _GRACE
    report = bytearray()

    def take(data: bytes) -> None:
        report.extend(data)
        if len(report) > _REPORT_MAX:
            raise GuestError("is too long", at="the report of the program's monitor")

    every = [*takers, take]
    with _forking:
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in every]
        writers = [writer for _, writer in pipes]
        parent = os.pidfd_open(os.getpid())
        child, own_pids = _fork()
        if not child:
            _in_child(body, writers, keep, parent, own_pids=own_pids)
        for fd in (parent, *writers):
            os.close(fd)
    pidfd, readers = os.pidfd_open(child), [reader for reader, _ in pipes]
    try:
        _pass_on(dict(zip(readers, every, strict=True)), pidfd, end)
    except BaseException:
        calls.send_signal(pidfd, _signal.SIGKILL)
        raise
    finally:
        for reader in readers:
            os.close(reader)
        status = _wait(child)
        os.close(pidfd)
    return _read(bytes(report), status)


def _fork() -> tuple[int, bool]:
    """
    os.fork(), and whether the child is the first process of a new pid namespace.

    pid_namespaces(7): that needs CAP_SYS_ADMIN.
    """
    back = os.open("/proc/thread-self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        calls.unshare(c.CLONE_NEWPID)
        own_pids = True
    except KernelError:
        own_pids = False
    child = -1
    try:
        child = os.fork()
    finally:
        if own_pids and child:
            calls.setns(back, c.CLONE_NEWPID)
        os.close(back)
    return child, own_pids


def _pass_on(takers: dict[int, Taker], pidfd: int, end: float | None) -> None:
    """
    Until the child has ended: what it leaves behind may write, or keep a pipe open, for ever.

    Raises Timeout.
    """
    poll = select.poll()
    for fd in (pidfd, *takers):
        poll.register(fd, select.POLLIN)
    over = False
    while not over:
        over = _is_over(pidfd)  # before its last words are looked for
        if not over and end is not None and time.monotonic() >= end:
            raise Timeout("does not react, and was killed", at="the program's monitor")
        for fd, _ in poll.poll(0 if over else _milliseconds(end)):
            data = b"" if fd == pidfd else os.read(fd, _PIPE_MAX if over else _CHUNK)
            if data:
                takers[fd](data)
            elif fd != pidfd:
                poll.unregister(fd)


def _is_over(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _milliseconds(end: float | None) -> float | None:
    return None if end is None else max(0.0, end - time.monotonic()) * 1000


def _wait(child: int) -> int:
    """Its wait status; 0 if the caller has waited for all children, or ignores their end."""
    try:
        return os.waitpid(child, 0)[1]
    except ChildProcessError:
        return 0


def _read(report: bytes, status: int) -> dict[str, object]:
    """What the child has reported, which may be forged if a program has taken it over."""
    try:
        return jsontext.object_of(report)
    except ValueError:
        number = _signal_of(status)
        how = f"was killed by signal {number}" if number else "ended without a report"
        raise GuestError("cannot continue: its monitor " + how, at="the program") from None


def _signal_of(status: int) -> int:
    """The signal that has killed a monitor, or 0, from the wait status of the child."""
    code = os.waitstatus_to_exitcode(status)
    return -code if code < 0 else max(code - _KILLED, 0)


def _in_child(
    body: Body, writers: list[int], keep: set[int], parent: int, *, own_pids: bool
) -> NoReturn:
    """The stack above belongs to the caller; parent is a pidfd of it."""
    try:
        gc.freeze()  # what the caller has left behind is not finalized here, on reused descriptors
        calls.prctl(_PR_SET_PDEATHSIG, _signal.SIGKILL, name="PR_SET_PDEATHSIG")
        if _is_over(parent):
            os._exit(1)
        if own_pids:
            _begin_pids()
        _close_others({*writers, *keep})
        report: dict[str, object] = {}
        try:
            body(writers[:-1], report)
        except BaseException as error:
            report["error"] = _fault_of(error).record()
        data = jsontext.dumps(report).encode()
        while data:
            data = data[os.write(writers[-1], data) :]
    finally:
        os._exit(0)


def _begin_pids() -> None:
    """
    Returns in a child, while this process waits for it.

    The first process of a pid namespace is sent no signal that it has no handler for, so that the
    monitor as such could not be stopped from its terminal.
    """
    monitor = os.fork()
    if not monitor:
        return
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    os.closerange(0, os.sysconf("SC_OPEN_MAX"))
    code = os.waitstatus_to_exitcode(os.waitpid(monitor, 0)[1])
    os._exit(code if code >= 0 else _KILLED - code)


def _fault_of(error: BaseException) -> Fault:
    fault = fault_of(error)
    if fault.kind == "StepError" and not fault.step:
        fault.kind = "GuestError"
    return fault


def _close_others(keep: set[int]) -> None:
    """Close all other descriptors; those of the streams that are not kept become /dev/null."""
    lowest = 0
    for fd in sorted(keep):
        if lowest < fd:  # closerange(0, 0) of CPython 3.11 closes everything
            os.closerange(lowest, fd)
        lowest = fd + 1
    os.closerange(lowest, os.sysconf("SC_OPEN_MAX"))
    while (fd := os.open("/dev/null", os.O_RDWR)) <= 2:
        pass
    os.close(fd)
