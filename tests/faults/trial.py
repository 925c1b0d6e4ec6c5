"""One command with one fault, in a process made for it; then `delete --force`, and a look around."""

from __future__ import annotations

import difflib
import faulthandler
import importlib
import os
import pkgutil
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from pycontain import init, launch, runtime
from pycontain.cli import fast
from pycontain.kernel import calls
from pycontain.kernel import const as c
from tests.bundles import Bundle, Bundles, Host, Runtime, look
from tests.faults import binding
from tests.faults.binding import Call, Fault
from tests.faults.verbs import VERBS, furnish, report, spoken

LIMIT = 60.0
"""Seconds after which a command, or a wait for its program, counts as hanging."""

_UNFORESEEN = (
    "Traceback", "AssertionError", "AttributeError", "IndexError", "KeyError", "NameError",
    "TypeError", "UnboundLocalError", "ValueError", "RuntimeError", "RecursionError",
)  # fmt: skip


for package in (init, launch, runtime):  # or else each command that is tried imports them again
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


class Ended(NamedTuple):
    """How a command ended; status is negative for a signal, None if it hung and was killed."""

    status: int | None
    err: str


class Trials:
    """Tries one verb again and again, each time with a new container of one bundle."""

    def __init__(self, runtime: Runtime, bundles: Bundles, name: str) -> None:
        self.runtime = runtime
        self.name = name
        self.verb = VERBS[name]
        self.made: Bundle = bundles("", self.verb.changes)
        furnish(self.made, self.verb)
        self.shared = binding.Shared()
        self.faults = 0
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(self.made.path / "sock"))
        self.listener.listen()
        self.listener.setblocking(False)
        self.sound = ""
        calls.prctl(c.PR_SET_CHILD_SUBREAPER, 1, name="PR_SET_CHILD_SUBREAPER")
        self.clean: tuple[Host, list[str]] = (look(), [])
        try:
            self.calls = self._learn()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        calls.prctl(c.PR_SET_CHILD_SUBREAPER, 0, name="PR_SET_CHILD_SUBREAPER")
        self.listener.close()
        self.shared.memory.close()

    def _learn(self) -> list[Call]:
        """The calls of the command without a fault; sets what it then reports and leaves."""
        for _ in range(2):  # the first time, places in the rootfs are created
            id = self._prepared()
            ended, self.sound = self._carried_out(id, None)
            assert ended == [Ended(0, "")] * len(ended), ended
            assert self._command("delete --force ID", id) == Ended(0, "")
            assert not living_children()
            self.clean = look(), self._left()
        return self.shared.calls()

    def _prepared(self) -> str:
        """A new container, as the verb needs it."""
        shutil.rmtree(self.runtime.root, ignore_errors=True)
        shutil.rmtree(self.made.path / "report")
        (self.made.path / "report").mkdir()
        (self.made.path / "report").chmod(0o777)
        for name in ("log", "pid"):
            (self.made.path / name).unlink(missing_ok=True)
        id = self.runtime.new_id()
        for words in self.verb.before:
            ended = self._command(words, id)
            assert ended == Ended(0, ""), (words, ended)
        return id

    # --- one trial -----------------------------------------------------------------------------

    def complaints(self, fault: Fault) -> list[str]:
        """What does not hold after the command was run with this fault; [] if all is well."""
        id = self._prepared()
        ended, seen = self._carried_out(id, fault)
        if not self.shared.happened:
            return self._cleaned(id)  # it did not get so far this time
        self.faults += 1
        found = [text for each in ended for text in _complaints_about(each, fault)]
        if ended[-1].status == 0 and fault.number > 0 and seen != self.sound:
            found.append(f"it succeeded, but not as requested: {_difference(self.sound, seen)}")
        return found + self._cleaned(id)

    def _carried_out(self, id: str, fault: Fault | None) -> tuple[list[Ended], str]:
        """How the command and those that complete it have ended, and what the program reports."""
        self.shared.clear()
        ended = [self._ended(self._forked(self.verb.words, id, fault, self.shared))]
        for words in self.verb.after:
            if ended[-1].status == 0:
                ended.append(self._command(words, id))
        if ended[-1].status != 0 or not self.verb.reports:
            return ended, ""
        within(LIMIT, lambda: report(self.made, self.verb.reports, id))
        return ended, report(self.made, self.verb.reports, id)

    def complaints_of_killed(self, fault: Fault, *, goes_on: bool) -> list[str]:
        """
        The same for a command that is killed while one of its processes halts.

        goes_on  whether that process goes on before `delete --force`, or only afterwards
        """
        id = self._prepared()
        self.faults += self._halted(id, fault)
        self.shared.may_go_on = goes_on
        found = self._cleaned(id)
        self.shared.may_go_on = True
        return found

    def _cleaned(self, id: str) -> list[str]:
        """What is left after `delete --force`."""
        ended = self._command("delete --force ID", id)
        found = [] if ended == Ended(0, "") else [f"delete --force: {ended}"]
        self._drain()
        host, left = self.clean
        seen = settled(host)
        orphans = living_children()
        if orphans:
            found.append(f"processes are left: {orphans}")
            for pid in orphans:
                os.kill(pid, signal.SIGKILL)
        for kind, was, now in zip(host._fields, host, seen, strict=True):
            # descriptors are this process's own, which runs no command itself
            if now != was and kind != "descriptors":
                changes = sorted(set(was) ^ set(now))
                found.append(f"{kind} changed: {changes}")
                sweep(host)
        more = sorted(set(self._left()) - set(left))
        if more:
            found.append(f"files are left: {more}")
        for path in sorted(more, reverse=True):
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        return found

    def _left(self) -> list[str]:
        """The files in the state root, the bundle and its root file system."""
        found = [str(path) for path in self.runtime.root.rglob("*")]
        found += [str(path) for path in self.made.path.rglob("*")]
        ours = [str(self.made.path / name) for name in ("log", "pid", "report/")]
        return sorted(path for path in found if not path.startswith(tuple(ours)))

    def _drain(self) -> None:
        """Accept and close what was connected, or the queue would be full in the end."""
        try:
            while True:
                self.listener.accept()[0].close()
        except BlockingIOError:
            pass

    # --- processes -----------------------------------------------------------------------------

    def _command(self, words: str, id: str) -> Ended:
        """Run one command without a fault to its end."""
        return self._ended(self._forked(words, id, None, None))

    def _halted(self, id: str, fault: Fault) -> bool:
        """Kill the command once the fault has halted a process; False if that never happens."""
        self.shared.clear()
        pid = self._forked(self.verb.words, id, fault, self.shared)
        pidfd = os.pidfd_open(pid)
        within(LIMIT, lambda: self.shared.happened or select.select([pidfd], [], [], 0)[0])
        os.close(pidfd)
        if self.shared.happened:
            os.kill(pid, signal.SIGKILL)
        self._ended(pid)
        return self.shared.happened

    def _forked(
        self, words: str, id: str, fault: Fault | None, shared: binding.Shared | None
    ) -> int:
        err = self.runtime.folder / "err"
        err.unlink(missing_ok=True)
        pid = os.fork()
        if pid:
            return pid
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            os.dup2(os.open(self.runtime.folder / "out", flags), 1)
            os.dup2(os.open(err, flags), 2)
            line = spoken(words, self.made, id)
            sys.argv[1:] = ["--root", str(self.runtime.root), *line]
            faulthandler.disable()  # pytest's: a process that kills itself has nothing to say
            binding.install(fault, shared)
            os._exit(fast.main(sys.argv[1:]))
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(99)

    def _ended(self, pid: int) -> Ended:
        pidfd = os.pidfd_open(pid)
        end = time.monotonic() + LIMIT
        while not (ended := select.select([pidfd], [], [], 0.05)[0]) and time.monotonic() < end:
            reap_orphans(besides=pid)  # a container ends only when all its processes are reaped
        os.close(pidfd)
        if not ended:
            os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        err = (self.runtime.folder / "err").read_text(errors="replace")
        return Ended(status if ended else None, err)


def _complaints_about(ended: Ended, fault: Fault) -> Iterator[str]:
    """What is wrong with how a command has ended."""
    if ended.status is None:
        yield "the command hangs"
    lines = ended.err.splitlines()
    if not all(line.startswith("pycontain: ") for line in lines):
        yield f"it prints {ended.err}"
    if any(word in ended.err for word in _UNFORESEEN):
        yield f"an unforeseen error: {ended.err}"
    if fault.number > 0 and ended.status and not lines:
        yield f"it ends with {ended.status} and says nothing"
    if fault.number > 0 and ended.status is not None and ended.status < 0:
        yield f"it is killed by signal {-ended.status}"


def _difference(wanted: str, found: str) -> str:
    lines = difflib.unified_diff(wanted.splitlines(), found.splitlines(), n=0, lineterm="")
    return "; ".join([*lines][2:])


def settled(host: Host, seconds: float = 10) -> Host:
    """How the host looks, once it is as it was: what was killed may take a moment."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        living, seen = living_children(), look()
        if seen[:3] == host[:3] and not living:
            break
        time.sleep(0.002)
    return seen


def reap_orphans(besides: int) -> None:
    """Reap what has been orphaned and has ended. pid_namespaces(7)"""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while (ended := os.waitid(os.P_ALL, 0, flags)) and ended.si_pid != besides:
        os.waitpid(ended.si_pid, 0)


def living_children() -> list[int]:
    """Our children, after reaping those that have ended: what commands leave becomes ours."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return []
    return [
        int(pid)
        for task in os.listdir("/proc/self/task")
        for pid in Path(f"/proc/self/task/{task}/children").read_text().split()
    ]


def sweep(before: Host) -> None:
    """Kill and remove what was left, so that the next test starts from a clean host."""
    cgroups = sorted(set(look().cgroups) - set(before.cgroups), reverse=True)
    for path in cgroups:
        Path(path, "cgroup.kill").write_text("1")
    known = {line.split()[0] for line in before.processes} | {str(os.getpid())}
    for line in look().processes:
        if line.split()[0] not in known:
            try:
                os.kill(int(line.split()[0]), signal.SIGKILL)
            except ProcessLookupError:
                pass
    for path in cgroups:
        within(3, lambda path=path: removed(path))


def removed(path: str | Path) -> bool:
    """Remove a cgroup; whether it is gone."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def within(seconds: float, true: Callable[[], object]) -> bool:
    """Whether this becomes true within so many seconds."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True
