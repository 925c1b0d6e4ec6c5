"""
The system calls that pycontain makes through its binding: counted, and one of them failed.

`install` puts a counter in the place of each function that makes a system call: those of
`pycontain.kernel.calls` (made by cffi), of `posix`, and the few of `fcntl`, `select`, `_socket` and
`_signal` that are used. It changes the modules of the process that calls it, so that has to be one
that was made for one command. Each process has its own count: the command is process 0, what it
forks is 1, what that forks is 2. A child of vfork shares its parent's memory, and so its count.
"""

from __future__ import annotations

import _signal
import _socket
import builtins
import errno
import fcntl
import mmap
import os
import posix
import select
import stat
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from pycontain.cgroup import controllers
from pycontain.kernel import _vfork, calls, seal, seccomp, sockets
from pycontain.kernel._ffi import ffi
from pycontain.lean import os as lean
from pycontain.lean import path
from pycontain.plan.walk import child_step, parent_step

KILL = -1
HALT = -2
"""Instead of an errno: the process kills itself, or halts until it may go on."""

STEP = "step"
"""The name of a call that is none: the beginning of a step of the plan, where no call can fail."""

# They make no system call, cannot fail, or are not used by the package.
_PURE = {
    "WCOREDUMP", "WEXITSTATUS", "WIFCONTINUED", "WIFEXITED", "WIFSIGNALED", "WIFSTOPPED",
    "WSTOPSIG", "WTERMSIG", "_exit", "_path_normpath", "abort", "fspath", "getegid", "geteuid",
    "getgid", "getpid", "getppid", "getuid", "major", "makedev", "minor", "putenv",
    "register_at_fork", "strerror", "umask", "unsetenv", "waitstatus_to_exitcode",
}  # fmt: skip


class Fault(NamedTuple):
    """
    What goes wrong.

    process  in which process of the command: 0, 1 or 2
    call     in which of its calls, counted from 0
    number   the errno, KILL or HALT
    lasting  whether each later call that takes up the same resource fails, too
    """

    process: int
    call: int
    number: int
    lasting: bool = False


class Call(NamedTuple):
    """A call that was made."""

    process: int
    call: int
    name: str
    detail: str


class Shared:
    """
    Memory that the processes of a command share with the test: the calls, and how far it has got.

    It is no file, since the container's first process closes those that it does not know. Each
    process has its own part of it, so that two never write to the same one.
    """

    _PART = 1 << 18
    _HEAD = 8

    def __init__(self, path: str = "") -> None:
        """A path is that of a file to share with a process that is not forked from this one."""
        size = 3 * self._PART + 2
        if not path:
            self.memory = mmap.mmap(-1, size)
            return
        with open(path, "a+b") as file:
            file.truncate(size)
            self.memory = mmap.mmap(file.fileno(), size)

    def clear(self) -> None:
        """Forget everything."""
        for process in range(3):
            self._set(process, 0)
        self.happened = self.may_go_on = False

    def append(self, process: int, line: str) -> None:
        """Add a line to the part of a process."""
        data = line.encode(errors="replace") + b"\n"
        size = self._size(process)
        begin = process * self._PART + self._HEAD + size
        self.memory[begin : begin + len(data)] = data
        self._set(process, size + len(data))

    def calls(self) -> list[Call]:
        """The calls that were made, of one process after the other."""
        found = []
        for process in range(3):
            begin = process * self._PART + self._HEAD
            text = self.memory[begin : begin + self._size(process)].decode()
            for number, line in enumerate(text.splitlines()):
                name, _, detail = line.partition(" ")
                found.append(Call(process, number, name, detail))
        return found

    @property
    def happened(self) -> bool:
        """Whether the fault has happened."""
        return bool(self.memory[-1])

    @happened.setter
    def happened(self, value: bool) -> None:
        self.memory[-1] = value

    @property
    def may_go_on(self) -> bool:
        """Whether a process that halts may go on."""
        return bool(self.memory[-2])

    @may_go_on.setter
    def may_go_on(self, value: bool) -> None:
        self.memory[-2] = value

    def _size(self, process: int) -> int:
        begin = process * self._PART
        return int.from_bytes(self.memory[begin : begin + self._HEAD], "little")

    def _set(self, process: int, size: int) -> None:
        begin = process * self._PART
        self.memory[begin : begin + self._HEAD] = size.to_bytes(self._HEAD, "little")


class _Counter:
    """Counts the calls of this process; `fault` happens in one of them."""

    def __init__(self, fault: Fault | None, shared: Shared | None) -> None:
        self.fault = fault
        self.shared = shared
        self.process = self.made = 0
        self.lasts = False

    def forked(self) -> None:
        self.process += 1
        self.made = 0

    def fails(self, name: str, detail: object) -> int:
        """The errno with which this call fails, 0 if it is to be made."""
        fault, here = self.fault, (self.process, self.made)
        self.made += 1
        if self.shared is None:
            return 0
        self.shared.append(self.process, f"{name} {_shown(detail)}")
        if fault is None:
            return 0
        if self.lasts and name != STEP:
            return fault.number if takes_up(name, detail, fault.number) else 0
        if here != (fault.process, fault.call):
            return 0
        self.shared.happened = True
        if fault.number > 0:
            self.lasts = fault.lasting
            return fault.number
        if fault.number == KILL:
            _die()
        while not self.shared.may_go_on:
            time.sleep(0.001)
        return 0


def _die() -> None:
    """As with SIGKILL, which process 1 of a pid namespace cannot send to itself: a fault can."""
    if posix.getpid() == 1:
        ffi.cast("int *", 8)[0] = 1
    posix.kill(posix.getpid(), _signal.SIGKILL)


def _shown(detail: object) -> str:
    if isinstance(detail, bytes):
        detail = detail.decode(errors="replace")
    return detail.replace("\n", " ") if isinstance(detail, str) else ""


_MAKE_FILES = {
    "mkdir",
    "mkfifo",
    "mknod",
    "symlink",
    "link",
    "rename",
    "replace",
    "write",
    "pwrite",
}
_MAKE_DESCRIPTORS = {
    "open", "pipe2", "eventfd", "memfd_create", "dup", "pidfd_open", "_openat2", "_open_tree",
    "_fsopen", "_fsmount", "_fspick", "_signalfd", "_socket", "socket", "socketpair", "scandir",
    "_clone3", "spawn", "_bpf", "listdir",
}  # fmt: skip


_GIVE_BACK = {
    "_pidfd_send_signal", "_umount2", "close", "write", "kill", "killpg", "lstat",
    "pidfd_send_signal", "poll",
    "rmdir", "stat", "unlink", "waitid", "waitpid",
}  # fmt: skip
_NO_SPACE = ("standard ", "/proc/", "/sys/", "pipe:", "socket:", "anon_inode:", "unknown")
_ANSWERS = ("access", "isatty")  # in Python these are False if the call fails


def takes_up(name: str, detail: object, number: int) -> bool:
    """Whether this call needs what a lasting fault says has run out."""
    if number == errno.EMFILE:
        return name in _MAKE_DESCRIPTORS
    if number == errno.ENOSPC:
        return name in _MAKE_FILES and not str(detail).startswith(_NO_SPACE)
    return name not in _GIVE_BACK


# EFAULT and EINVAL are all that it can return: sigaction(2)
_CANNOT_FAIL = ("_rt_sigaction",)
_counter: _Counter


def install(fault: Fault | None, shared: Shared | None) -> None:
    """Count the calls of this process and of what it forks."""
    global _counter
    _counter = _Counter(fault, shared)
    for name, function in vars(posix).items():
        if type(function) is type(posix.open) and name not in _PURE:
            setattr(lean, name, _counted(name, function))
    for name in ("getcwd", "lstat", "stat"):
        setattr(path, name, getattr(lean, name))
    for name, function in vars(calls).items():
        ours = name[0] != "_" or type(function) is type(install) or name in _CANNOT_FAIL
        if callable(function) and not ours:
            setattr(calls, name, _counted_in_c(name, function))
    for module, name in (
        (fcntl, "flock"), (fcntl, "fcntl"), (_signal, "pidfd_send_signal"), (select, "poll"),
        (_socket, "socketpair"),
    ):  # fmt: skip
        setattr(module, name, _counted(name, getattr(module, name)))
    sockets._socket = _Sockets()
    for module in (controllers, seccomp):
        module.open = _open
    _vfork.spawn = _counted_spawn(_vfork.spawn)
    for performers in (parent_step, child_step):
        performers.perform = _announced(performers.perform)
    seal.ensure = lambda: None  # this process goes on in its own interpreter


def _target(fd: int) -> str:
    """What is written to, as far as this process can tell."""
    if fd in (1, 2):
        return "standard output or error"
    if stat.S_ISFIFO(posix.fstat(fd).st_mode):
        return "pipe:"
    try:
        return posix.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return "unknown"


def _counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **named: Any) -> Any:
        detail = next((arg for arg in args if isinstance(arg, (str, bytes))), "")
        writes = name == "write" and isinstance(args[0], int)
        number = _counter.fails(name, _target(args[0]) if writes else detail)
        if number and name in _ANSWERS:
            return False
        if number and name == "close":
            function(*args)  # Linux closes it whatever it returns: close(2), "Dealing with errors"
        if number:
            named_file = [detail] if detail and name != "write" else []
            raise OSError(number, os.strerror(number), *named_file)
        return function(*args, **named)

    return call


def _counted_in_c(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        number = _counter.fails(name, "")
        if number:
            ffi.errno = number
            return -1
        result = function(*args)
        if name == "_clone3" and result == 0:
            _counter.forked()
        return result

    return call


def _announced(perform: Callable[..., None]) -> Callable[..., None]:
    def announce_and_perform(step: Any, context: object) -> None:
        _counter.fails(STEP, step.name)
        perform(step, context)

    return announce_and_perform


def _counted_spawn(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        number = _counter.fails("spawn", "")
        return -number if number else function(*args)

    return call


class _Socket(_socket.socket):
    def __init__(self, *args: Any, **named: Any) -> None:
        _fail("socket")
        super().__init__(*args, **named)

    def connect(self, *args: Any) -> Any:
        _fail("connect")
        return super().connect(*args)

    def sendmsg(self, *args: Any) -> Any:
        _fail("sendmsg")
        return super().sendmsg(*args)

    def recvmsg(self, *args: Any) -> Any:
        _fail("recvmsg")
        return super().recvmsg(*args)


class _Sockets:
    """The `_socket` of kernel.sockets."""

    socket = _Socket

    def __getattr__(self, name: str) -> Any:
        return getattr(_socket, name)


def _fail(name: str) -> None:
    number = _counter.fails(name, "")
    if number:
        raise OSError(number, os.strerror(number))


class _File:
    """A file of the built-in open."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.file, name)
        return _counted(name, function) if name in ("read", "write") else function


def _open(*args: Any, **named: Any) -> _File:
    return _File(_counted("open", builtins.open)(*args, **named))
