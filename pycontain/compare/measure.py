"""Run one command and measure it: time to first output and to exit, and memory."""

from __future__ import annotations

import errno
import os
import select
import subprocess
import time

from ..errors import ProgramError
from ..lean.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_SAMPLE_EVERY = 0.005  # seconds between two samples of the memory


class Run(Record):
    """
    One run.

    first_output  seconds to its first byte, or to its end without output
    seconds       to its end
    memory        peak resident memory of the program and its monitor together, in bytes
    program       the peak of the program's own process alone, or 0 where it has none
    """

    first_output: float
    seconds: float
    memory: int
    program: int
    status: int
    output: bytes


def run(command: Sequence[str], native: Sequence[str]) -> Run:
    """
    Run a command to its end; native is the program it runs, to tell it from its monitor.

    Raises ProgramError when the command itself cannot be executed.
    """
    began = time.perf_counter()
    try:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as error:
        number = error.errno or 0
        why = "executable file not found in $PATH"
        if number != errno.ENOENT or "/" in command[0]:
            why = os.strerror(number).lower()
        raise ProgramError(why, call="exec", at=command[0], errno=number) from None
    assert child.stdout
    output, first, memory = bytearray(), 0.0, _Memory(child.pid, native[0])
    fd = child.stdout.fileno()
    while True:
        ready, _, _ = select.select([fd], [], [], _SAMPLE_EVERY)
        memory.sample()
        if not ready:
            continue
        piece = os.read(fd, 65536)
        first = first or time.perf_counter() - began
        if not piece:
            break
        output += piece
    status = child.wait()
    child.stdout.close()
    return Run(
        first_output=first, seconds=time.perf_counter() - began, memory=memory.total,
        program=memory.program, status=status, output=bytes(output),
    )  # fmt: skip


class _Memory:
    """The high-water marks of a process and what it started."""

    def __init__(self, pid: int, program: str) -> None:
        self._pid = pid
        self._name = os.path.basename(program)[:15]
        self._marks: dict[int, tuple[str, int]] = {}
        self.program = 0

    @property
    def total(self) -> int:
        return sum(mark for _, mark in self._marks.values())

    def sample(self) -> None:
        for pid in _tree(self._pid):
            name, mark = _status(pid)
            before, most = self._marks.get(pid, (name, 0))
            # before execve it is a copy of the monitor that shares its pages: not counted
            self._marks[pid] = name, max(mark, most) if name == before or not mark else mark
            if name == self._name:
                self.program = max(self.program, mark)


def _tree(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for parent in found:
        try:
            with open(f"/proc/{parent}/task/{parent}/children") as file:
                found += map(int, file.read().split())
        except OSError:
            continue  # it has exited
    return found


def _status(pid: int) -> tuple[str, int]:
    """The name and the high-water mark in bytes of a process, 0 when it has exited."""
    try:
        with open(f"/proc/{pid}/status") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
    except OSError:
        return "", 0
    return fields["Name"].strip(), int(fields.get("VmHWM", "0 kB").split()[0]) << 10
