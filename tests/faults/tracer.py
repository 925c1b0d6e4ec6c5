"""
Stops the processes of a command within their execve. ptrace(2), execve(2).

A process is stopped when it enters the system call, or when the kernel has put the new program in
its place, before the first instruction of that. SIGKILL is the only way out of either stop.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_LIBC.ptrace.restype = ctypes.c_long

# include/uapi/linux/ptrace.h
_CONT, _SYSCALL, _SEIZE, _INTERRUPT, _LISTEN = 7, 24, 0x4206, 0x4207, 0x4208
_GET_SYSCALL_INFO, _ENTRY = 0x420E, 1
_EVENT_EXEC, _EVENT_STOP = 4, 128
# TRACESYSGOOD, TRACEFORK, TRACEVFORK, TRACECLONE, TRACEEXEC, EXITKILL
_OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x100000
_WALL = 0x40000000
_INFO = 88  # bytes of struct ptrace_syscall_info
_EXECVES = {"x86_64": (59, 322), "aarch64": (221, 281)}[os.uname().machine]


class Traced:
    """
    A process and, if wanted, those that it creates, until one of them is within its execve.

    ended  pid -> wait status, of those that have ended meanwhile
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended: dict[int, int] = {}
        self._ptrace(_SEIZE, pid, _OPTIONS)
        self._ptrace(_INTERRUPT, pid, 0)  # to go on until its next system call

    @classmethod
    def command(cls, words: list[str], err: Path) -> Traced:
        """Start a command, traced from its beginning; its errors go to a file."""
        ready, go = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(go)
                os.read(ready, 1)
                os.dup2(os.open(os.devnull, os.O_RDWR), 0)
                os.dup2(0, 1)
                os.dup2(os.open(err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
                os.closerange(3, 100)
                os.execv(words[0], words)
            finally:
                os._exit(99)
        traced = cls(pid)
        for fd in (go, ready):
            os.close(fd)
        return traced

    def until_execve(self, program: str, *, finished: bool) -> int:
        """
        Go on until a process executes this program (its last name); returns the pid.

        finished  whether to stop it at the end of its execve, or at the beginning

        Raises ChildProcessError when all have ended.
        """
        while True:
            pid, status = os.waitpid(-1, _WALL)
            if not os.WIFSTOPPED(status):
                self.ended[pid] = status  # a command's may come first: vfork(2) lets it continue
                continue
            number, event = os.WSTOPSIG(status), status >> 16
            if finished and event == _EVENT_EXEC and _executes(pid) == program:
                return pid
            if not finished and number == signal.SIGTRAP | 0x80 and self._enters(pid, program):
                return pid
            self._go_on(pid, number, event)

    def to_the_end(self) -> int:
        """Let all of them end; returns the exit status of the first, negative for a signal."""
        self._until_end_of(self.pid)
        return os.waitstatus_to_exitcode(self.ended[self.pid])

    def kill(self, pid: int) -> None:
        """Kill one of them, and wait for its end, and so for that of each of its threads."""
        os.kill(pid, signal.SIGKILL)
        self._until_end_of(pid)

    def wait_for(self, pid: int) -> None:
        """
        Wait for the end of one that another process kills.

        A process 1 that ends waits for all in its namespace, and so for us, who trace them.
        """
        while os.WIFSTOPPED(status := os.waitpid(pid, _WALL)[1]):
            pass
        self.ended[pid] = status

    def _until_end_of(self, wanted: int) -> None:
        while wanted not in self.ended:
            pid, status = os.waitpid(-1, _WALL)
            if os.WIFSTOPPED(status):
                self._go_on(pid, os.WSTOPSIG(status), status >> 16, _CONT)
            else:
                self.ended[pid] = status

    def _go_on(self, pid: int, number: int, event: int, request: int = _SYSCALL) -> None:
        if event == _EVENT_STOP and number != signal.SIGTRAP:
            request = _LISTEN  # a group stop
        ours = event or number in (signal.SIGTRAP, signal.SIGTRAP | 0x80)
        try:
            self._ptrace(request, pid, 0 if ours else number)
        except ProcessLookupError:
            pass  # it was killed meanwhile

    def _enters(self, pid: int, program: str) -> bool:
        """Whether it is at the beginning of an execve of this program."""
        info = ctypes.create_string_buffer(_INFO)
        self._ptrace(_GET_SYSCALL_INFO, pid, ctypes.addressof(info), _INFO)
        kind, number, *words = struct.unpack_from("=B23xQ6Q", info)
        if kind != _ENTRY or number not in _EXECVES:
            return False
        place = words[0] if number == _EXECVES[0] else words[1]
        return _text_at(pid, place).rsplit("/", 1)[-1] == program

    @staticmethod
    def _ptrace(request: int, pid: int, data: int, address: int = 0) -> None:
        if _LIBC.ptrace(request, pid, address, data) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), f"ptrace {request:#x}")


def _text_at(pid: int, place: int) -> str:
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        memory.seek(place)
        return memory.read(256).partition(b"\0")[0].decode(errors="replace")


def _executes(pid: int) -> str:
    """The last name of what it was told to execute; links of busybox are not followed."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return os.path.basename(words[0].decode(errors="replace"))


def reap_all() -> None:
    """Wait for what has become our child, because we trace it or are its subreaper."""
    try:
        while os.waitpid(-1, os.WNOHANG | _WALL) != (0, 0):
            pass
    except ChildProcessError:
        pass
