"""
Runs a monitor in a process of its own, which a program's jail can close around.

The caller keeps what is the caller's: functions that take output or a trace are called here, with
what comes through pipes, and the child has no other descriptors than the program's and these.
"""

from __future__ import annotations

import _signal
import _thread
import gc
import os
import select

from ..errors import Fault, GuestError, fault_of
from ..kernel import calls
from ..lean import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Taker = Callable[[bytes], object]
    Body = Callable[[list[int], dict[str, object]], None]

_CHUNK = 1 << 16
_REPORT_MAX = 1 << 20
_PR_SET_PDEATHSIG = 1
_forking = _thread.allocate_lock()  # else another thread's child would hold the pipes open


def run(body: Body, takers: Sequence[Taker], keep: set[int]) -> dict[str, object]:
    """
    Run body(pipes, report) in a child; pipes are descriptors, one for each of the takers.

    keep  the descriptors that the child keeps besides

    Returns the report, to which "error" is added (Fault.record()) if the body raised one. Raises
    what a taker raises, which ends the child, and GuestError when there is no report.
    """
    report = bytearray()

    def take(data: bytes) -> None:
        report.extend(data)
        if len(report) > _REPORT_MAX:
            raise GuestError("is too long", at="the report of the program's monitor")

    every = [*takers, take]
    with _forking:
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in every]
        writers = [writer for _, writer in pipes]
        parent = os.getpid()
        child = os.fork()
        if not child:
            _in_child(body, writers, keep, parent)
        for writer in writers:
            os.close(writer)
    try:
        _pass_on({reader: taker for taker, (reader, _) in zip(every, pipes, strict=True)})
    except BaseException:
        os.kill(child, _signal.SIGKILL)
        raise
    finally:
        for reader, _ in pipes:
            os.close(reader)
        _, status = os.waitpid(child, 0)
    return _read(bytes(report), status)


def _pass_on(takers: dict[int, Taker]) -> None:
    """Until all writers have ended."""
    poll = select.poll()
    for reader in takers:
        poll.register(reader, select.POLLIN)
    left = len(takers)
    while left:
        for reader, _ in poll.poll():
            data = os.read(reader, _CHUNK)
            if data:
                takers[reader](data)
            else:
                poll.unregister(reader)
                left -= 1


def _read(report: bytes, status: int) -> dict[str, object]:
    """What the child has reported, which may be forged if a program has taken it over."""
    try:
        return jsontext.object_of(report)
    except ValueError:
        number = os.waitstatus_to_exitcode(status)
        how = f"was killed by signal {-number}" if number < 0 else "ended without a report"
        raise GuestError("cannot continue: its monitor " + how, at="the program") from None


def _in_child(body: Body, writers: list[int], keep: set[int], parent: int) -> None:
    """Never returns: the stack above belongs to the caller."""
    try:
        gc.freeze()  # what the caller has left behind is not finalized here, on reused descriptors
        calls.prctl(_PR_SET_PDEATHSIG, _signal.SIGKILL, name="PR_SET_PDEATHSIG")
        if os.getppid() != parent:
            os._exit(1)
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
