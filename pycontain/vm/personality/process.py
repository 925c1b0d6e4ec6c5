"""What a program asks about itself, the machine and the time; and how it ends."""

from __future__ import annotations

import errno
import os
import time

from .layout import signed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..deadline import Deadline
    from ..space import Space
    from .linux import Linux

RELEASE = "5.14.0-pycontain"  # another kernel than the host's, and glibc asks for 3.2 or later
_VERSION = "#1 system calls served by pycontain"
_PID = 1  # alone in its world
_STACK_LIMIT = 8 << 20
_INFINITY = (1 << 64) - 1
_RLIMIT_STACK = 3
_ARCH_SET_FS = 0x1002
_TIMER_ABSTIME = 1
_RANDOM_MAX = 1 << 20
_ACTION_SIZE = 32  # the kernel's struct sigaction, which begins with the handler
_DEFAULT, _IGNORE = 0, 1
_NEVER_CAUGHT = {9, 19}  # SIGKILL, SIGSTOP
_HARMLESS = {17, 18, 23, 28}  # SIGCHLD, SIGCONT, SIGURG, SIGWINCH: ignored by default, signal(7)


class ProcessCalls:
    """Identity, time, and the end."""

    def __init__(
        self, machine: str, space: Space, deadline: Deadline, linux: Linux,
        set_thread_pointer: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._machine = machine
        self._space = space
        self._deadline = deadline
        self._linux = linux
        self._set_thread_pointer = set_thread_pointer
        self._actions: dict[int, bytes] = {}

    def calls(self) -> dict[str, Callable[..., int]]:
        """By their names."""
        own = (
            self.uname, self.arch_prctl, self.prlimit64, self.getrandom, self.exit, self.kill,
            self.tgkill, self.gettimeofday, self.time, self.clock_gettime, self.clock_getres,
            self.nanosleep, self.clock_nanosleep, self.rt_sigaction, self.rt_sigprocmask,
        )  # fmt: skip
        constants = {
            "getpid": _PID, "gettid": _PID, "set_tid_address": _PID, "getppid": 0,
            "set_robust_list": 0, "getuid": os.getuid(), "geteuid": os.geteuid(),
            "getgid": os.getgid(), "getegid": os.getegid(),
        }  # fmt: skip
        return {
            **{call.__name__: call for call in own},
            **{name: _Constant(value).answer for name, value in constants.items()},
            "exit_group": self.exit,
            "tkill": self.kill,
        }

    def uname(self, address: int) -> int:
        fields = ("Linux", "vm", RELEASE, _VERSION, self._machine, "(none)")
        self._space.write(address, b"".join(text.encode().ljust(65, b"\0") for text in fields))
        return 0

    def arch_prctl(self, code: int, value: int) -> int:
        if code != _ARCH_SET_FS:
            return -errno.EINVAL
        if value >> 47:
            return -errno.EPERM
        self._set_thread_pointer(value)
        return 0

    def prlimit64(self, pid: int, resource: int, new: int, old: int) -> int:
        if pid not in (0, _PID) or new:
            return -errno.EPERM
        if old:
            soft = _STACK_LIMIT if resource == _RLIMIT_STACK else _INFINITY
            self._space.write(old, _words(soft, _INFINITY))
        return 0

    def getrandom(self, address: int, length: int) -> int:
        length = min(length, _RANDOM_MAX)
        self._space.write(address, os.urandom(length))
        return length

    # --- the end -------------------------------------------------------------------------------

    def exit(self, status: int) -> int:
        self._linux.end(status)
        return 0

    def kill(self, pid: int, signal: int) -> int:
        if pid != _PID:
            return -errno.ESRCH
        if not 0 <= signal <= 64:
            return -errno.EINVAL
        self.raise_signal(signal)
        return 0

    def raise_signal(self, signal: int) -> None:
        """End the program by a signal, unless it is 0 or ignored."""
        handler = int.from_bytes(self._actions.get(signal, b"")[:8], "little")
        if signal and handler != _IGNORE and not (signal in _HARMLESS and handler == _DEFAULT):
            self._linux.kill(signal)

    def tgkill(self, pid: int, thread: int, signal: int) -> int:
        return self.kill(thread, signal) if pid == _PID else -errno.ESRCH

    # No signal comes but those that end the program: one that is ignored does not, handlers and
    # masks have no effect.

    def rt_sigaction(self, signal: int, new: int, old: int) -> int:
        if not 0 < signal <= 64 or (new and signal in _NEVER_CAUGHT):
            return -errno.EINVAL
        action = self._space.read(new, _ACTION_SIZE) if new else b""
        if old:
            self._space.write(old, self._actions.get(signal, bytes(_ACTION_SIZE)))
        if action:
            self._actions[signal] = action
        return 0

    def rt_sigprocmask(self, how: int, new: int, old: int, size: int) -> int:  # noqa: ARG002
        if size != 8:
            return -errno.EINVAL
        if old:
            self._space.write(old, bytes(8))
        return 0

    # --- time ----------------------------------------------------------------------------------

    def gettimeofday(self, address: int) -> int:
        seconds, part = divmod(time.time_ns() // 1000, 1_000_000)
        if address:
            self._space.write(address, _words(seconds, part))
        return 0

    def time(self, address: int) -> int:
        now = int(time.time())
        if address:
            self._space.write(address, _words(now))
        return now

    def clock_gettime(self, clock: int, address: int) -> int:
        now = time.clock_gettime_ns(signed(clock, 32))
        self._space.write(address, _words(*divmod(now, 10**9)))
        return 0

    def clock_getres(self, clock: int, address: int) -> int:
        time.clock_gettime_ns(signed(clock, 32))  # raises OSError for a clock that is not there
        if address:
            self._space.write(address, _words(0, 1))
        return 0

    def nanosleep(self, address: int) -> int:
        return self._sleep(self._duration(address))

    def clock_nanosleep(self, clock: int, flags: int, address: int) -> int:
        until = self._duration(address)
        now = time.clock_gettime_ns(signed(clock, 32)) if flags & _TIMER_ABSTIME else 0
        return self._sleep(max(0, until - now))

    def _duration(self, address: int) -> int:
        data = self._space.read(address, 16)
        seconds = int.from_bytes(data[:8], "little", signed=True)
        part = int.from_bytes(data[8:], "little", signed=True)
        if seconds < 0 or not 0 <= part < 10**9:
            raise OSError(errno.EINVAL, "not a time")
        return seconds * 10**9 + part

    def _sleep(self, nanoseconds: int) -> int:
        left = self._deadline.left()
        wanted = min(nanoseconds / 1e9, 1e8)
        time.sleep(wanted if left is None else min(wanted, left))
        self._deadline.check()
        return 0


class _Constant:
    """A call that always gives the same answer."""

    def __init__(self, value: int) -> None:
        self._value = value

    def answer(self) -> int:
        return self._value


def _words(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)
