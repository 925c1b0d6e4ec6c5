"""Calls about the program itself, the machine and the time, and those that end it."""

from __future__ import annotations

import errno
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..deadline import Deadline
    from ..space import Space
    from .ending import Exit

RELEASE = "5.14.0-pycontain"  # not the host's kernel; glibc requires 3.2 or later
_VERSION = "#1 system calls served by pycontain"
_PID = 1  # it is the only process, of the only user
_UID = 0
_STACK_LIMIT = 8 << 20
_INFINITY = (1 << 64) - 1
_RLIMIT_STACK = 3
_ARCH_SET_FS = 0x1002
_TIMER_ABSTIME = 1
# Clock of the program -> clock of this host, clock_gettime(2). No other is read: a negative number
# means the processor time of any process, or the clock of a device behind one of our descriptors.
# Both processor times are those of the thread that the program runs in.
_CLOCKS = {
    0: time.CLOCK_REALTIME, 1: time.CLOCK_MONOTONIC, 2: time.CLOCK_THREAD_CPUTIME_ID,
    3: time.CLOCK_THREAD_CPUTIME_ID, 4: time.CLOCK_MONOTONIC_RAW, 5: time.CLOCK_REALTIME,
    6: time.CLOCK_MONOTONIC, 7: time.CLOCK_BOOTTIME,
}  # fmt: skip
_UPTIMES = (time.CLOCK_MONOTONIC, time.CLOCK_MONOTONIC_RAW, time.CLOCK_BOOTTIME)
_SLEEP_CLOCKS = {0, 1, 7}  # CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME
_RANDOM_MAX = 1 << 20
_ACTION_SIZE = 32  # the kernel's struct sigaction, which begins with the handler
_DEFAULT, _IGNORE = 0, 1
_NEVER_CAUGHT = {9, 19}  # SIGKILL, SIGSTOP
_HARMLESS = {17, 18, 23, 28}  # SIGCHLD, SIGCONT, SIGURG, SIGWINCH: ignored by default, signal(7)


class ProcessCalls:
    """Identity, time, and exit."""

    def __init__(
        self, machine: str, space: Space, deadline: Deadline, exit: Exit,
        set_thread_pointer: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._machine = machine
        self._space = space
        self._deadline = deadline
        self._exit = exit
        self._set_thread_pointer = set_thread_pointer
        self._actions: dict[int, bytes] = {}
        # All clocks but the time of day start with the program: they would show for how long the
        # host has run, and how much time this thread has used for others. The thread's is missing
        # here because an engine may run the program in another one: it starts when first read.
        self._zero = {clock: time.clock_gettime_ns(clock) for clock in _UPTIMES}
        self._zero[time.CLOCK_REALTIME] = 0

    def calls(self) -> dict[str, Callable[..., int]]:
        """The calls served here, by name."""
        own = (
            self.uname, self.arch_prctl, self.prlimit64, self.getrandom, self.exit, self.kill,
            self.tgkill, self.gettimeofday, self.time, self.clock_gettime, self.clock_getres,
            self.nanosleep, self.clock_nanosleep, self.rt_sigaction, self.rt_sigprocmask,
        )  # fmt: skip
        constants = {
            "getpid": _PID, "gettid": _PID, "set_tid_address": _PID, "getppid": 0,
            "set_robust_list": 0, "getuid": _UID, "geteuid": _UID, "getgid": _UID, "getegid": _UID,
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

    # --- exit and signals ----------------------------------------------------------------------

    def exit(self, status: int) -> int:
        self._exit.exit(status)
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
            self._exit.kill(signal)

    def tgkill(self, pid: int, thread: int, signal: int) -> int:
        return self.kill(thread, signal) if pid == _PID else -errno.ESRCH

    # The only signals delivered are those that end the program, unless it ignores them; handlers
    # and masks have no effect.

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
        self._space.write(address, _words(*divmod(self._now(clock), 10**9)))
        return 0

    def clock_getres(self, clock: int, address: int) -> int:
        self._now(clock)
        if address:
            self._space.write(address, _words(0, 1))
        return 0

    def _now(self, clock: int) -> int:
        """Nanoseconds on a clock of the program. Raises OSError with EINVAL if there is none."""
        host = _CLOCKS.get(clock & 0xFFFF_FFFF)
        if host is None:
            raise OSError(errno.EINVAL, "")
        now = time.clock_gettime_ns(host)
        return now - self._zero.setdefault(host, now)

    def nanosleep(self, address: int) -> int:
        return self._sleep(self._duration(address))

    def clock_nanosleep(self, clock: int, flags: int, address: int) -> int:
        if clock & 0xFFFF_FFFF not in _SLEEP_CLOCKS:
            raise OSError(errno.EINVAL, "")
        until = self._duration(address)
        now = self._now(clock) if flags & _TIMER_ABSTIME else 0
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
    """A call that always returns the same value."""

    def __init__(self, value: int) -> None:
        self._value = value

    def answer(self) -> int:
        return self._value


def _words(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)
