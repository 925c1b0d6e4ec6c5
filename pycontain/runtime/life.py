"""
The parent's side of a container's life: its steps of the plan, with an undo for each.

Where the plan goes on with the child, the baton is passed and waited for, unless the child borrows
our memory and does the rest itself. When anything fails, the undos run in reverse, and the host is
as it was.
"""

from __future__ import annotations

import _signal
import time

from .. import os
from ..cgroup.devices import attach
from ..cgroup.disabled import NoCgroup
from ..cgroup.place import find_mount, own, resolve
from ..cgroup.tree import Cgroup
from ..errors import KernelError, PycontainError, StateError, StepError, fault_of
from ..kernel import calls
from ..kernel import const as c
from ..plan import steps
from ..plan.namespaces import FILES
from ..wire import sync
from ..wire.state import State, StateDir, public_state, start_time
from .lend import lend
from .rescue import Rescue, death, ending, rescue
from .spawn import Child, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..init.box import Box
    from ..spec.records import Process
    from .options import Options

ALL_SIGNALS = frozenset(range(1, 65)) - {32, 33}  # the two are libc's own


class Life:
    """
    A container on its way from a plan to a process.

    times    (side, step, microseconds) of what was done
    filters  device filters in the kernel, by their code, which outlive this life
    network  a network namespace to use where the plan has a new one; its owner closes it
    rescue   what this process becomes if a child that borrows its memory is killed
    left_over  children that have ended and are to be waited for by their parent, not by us
    """

    def __init__(self, options: Options, id: str, plan: tuple[steps.Step, ...]) -> None:
        self.options = options
        self.plan = plan
        self.directory = StateDir(options.root, id)
        self.cgroup: Cgroup | NoCgroup = NoCgroup()
        self.state: State | None = None
        self.config = ""
        self.child: Child | None = None
        self.console = -1
        self.poststop: Callable[[State], None] = lambda _: None
        self.times: list[tuple[str, str, int]] = []
        self.clone_flags = 0
        self.filters: dict[bytes, int] | None = None
        self.network = -1
        self.rescue: Rescue | None = None
        self.left_over: list[int] = []
        self.target = -1
        self._seccomp = b""
        self._namespaces: dict[int, int] = {}
        self._undo: list[Callable[[], object]] = []
        self._start_fifos: sync.Channel | None = None
        self._hooks_ran = False

    # --- the walk through the plan -------------------------------------------------------------

    def bring_up(self) -> None:
        """
        Carry out the plan: up to the wait for `start`, or until the program runs.

        Raises the first error of either side, after undoing everything.
        """
        mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, ALL_SIGNALS)
        self._undo.append(self._close_what_the_child_has)
        try:
            self._walk()
        except BaseException:
            self.undo()
            raise
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)

    def _walk(self) -> None:
        for index, step in enumerate(self.plan):
            following = self.plan[index + 1] if index + 1 < len(self.plan) else None
            self._hooks_ran |= isinstance(step, (steps.RunHooks, steps.RunContainerHooks))
            if step.side == "parent":
                self.do(step)
                if isinstance(step, steps.Spawn) and step.borrows:
                    return  # the child has done the rest
                if self.child and following is not None and following.side == "child":
                    sync.give_go(self.child.wire)
            elif isinstance(step, steps.AwaitStart):
                return
            elif isinstance(step, steps.Execute):
                self._await("exec")
                self._await("end")
            elif following is not None and following.side == "parent":
                self._await("done")

    def bring_up_with_terminal(self, process: Process | None, *, detached: bool) -> int:
        """As bring_up; returns the master of a terminal that is to be served here, or -1."""
        if detached or process is None or not process.terminal:
            self.bring_up()
            return -1
        from ..kernel import sockets

        ours, self.console = sockets.pair()
        try:
            self.bring_up()
        except BaseException:
            os.close(ours)
            raise
        return sockets.receive(ours)

    def undo(self, *, hooks_ran: bool = False) -> None:
        """
        Take everything back, last things first, whatever fails on the way.

        What cannot be taken back is a warning: the error that led here is what matters. The
        poststop hooks run when other hooks have, or when the caller says so.
        """
        while self._undo:
            try:
                self._undo.pop()()
            except (PycontainError, OSError) as error:
                self.options.warn(f"cannot be undone: {fault_of(error).line()}")
        self.release()
        if self._hooks_ran or hooks_ran:
            self.poststop(self.known)

    def _await(self, wanted: str) -> None:
        assert self.child is not None
        word, times = sync.await_child(self.child.wire, self._go_on_with)
        self.times += [("child", name, spent) for name, spent in times]
        if word != wanted:
            raise self._early_death(wanted)

    def _go_on_with(self, pid: int) -> None:
        """The child has made another process that goes on in its place, and ends."""
        before, pidfd = self.child, os.pidfd_open(pid)
        assert before is not None
        self._bury(before)
        self.child = Child(pid, pidfd, before.wire)
        sync.give_go(before.wire)

    def _bury(self, child: Child) -> None:
        """Wait for a child that ends, as far as it is ours to wait for."""
        self.child = None
        try:
            os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
        except ChildProcessError:  # a worker's children are the library's
            self.left_over.append(child.pid)
        os.close(child.pidfd)

    def _early_death(self, wanted: str) -> StepError:
        assert self.child is not None
        try:
            ended = os.waitid(os.P_PIDFD, self.child.pidfd, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:  # a worker's children are the library's to wait for
            ended = None
        ours = [step.name for step in self.plan if step.side == "child"]
        begun = sync.steps_begun(self.child.wire)
        how = ending(ended) if ended else "died"
        return death(f"{how} before it said {wanted}", ours[begun - 1] if begun else "")

    def do(self, step: steps.Step) -> None:
        """Do a step of the parent. Raises PycontainError."""
        began, inner = time.perf_counter_ns(), len(self.times)
        try:
            self._carry_out(step)
        except PycontainError as error:
            raise error.in_step(step.name) from None
        spent = (time.perf_counter_ns() - began) // 1000
        spent -= sum(times[2] for times in self.times[inner:])  # steps that were part of this one
        self.times.insert(inner, ("parent", step.name, spent))

    def _carry_out(self, step: steps.Step) -> None:
        match step:
            case steps.Reserve():
                self._reserve()
            case steps.MakeCgroup():
                self._make_cgroup(step)
            case steps.LimitCgroup():
                self.cgroup.write(step.settings)
            case steps.GiveCgroup():
                self._real_cgroup().give(step.uid)
            case steps.FilterDevices():
                self._filter_devices(step)
            case steps.CompileSeccomp():
                self._compile_seccomp(step)
            case steps.ConnectConsole():
                self._connect_console(step)
            case steps.OpenNamespaces():
                self._open_namespaces(step)
            case steps.Spawn():
                rest = self.plan[self.plan.index(step) + 1 :]
                if step.borrows:
                    self._lend(step, rest)
                else:
                    self._spawn(step, rest)
            case steps.RecordPid():
                self._record_pid()
            case steps.AdjustOomScore():
                self._adjust_oom_score(step)
            case steps.RunHooks():
                self._run_hooks(step)
            case steps.WritePidFile():
                self._write_pid_file(step)
            case steps.SendPidfd():
                self._send_pidfd(step)
            case steps.Announce():
                self._announce()
            case _:
                raise StepError("is a step that the parent does not know", value=step.name)

    def release(self) -> None:
        """Let go of what only bringing up needs; the child's pidfd stays."""
        self._undo.clear()
        if self.child is not None:
            self.child.let_go()
        if self.target >= 0:
            os.close(self.target)
            self.target = -1
        self.cgroup.close()
        self.directory.let_go()

    def finish(self) -> bool:
        """
        After the program's end: kill what it left, remove cgroup and state.

        False when somebody else, such as `delete --force`, has done that.
        """
        try:
            self.directory.lock()
        except StateError:
            return False
        if isinstance(self.cgroup, Cgroup):
            self.cgroup.clear()
        self.directory.remove()
        return True

    @property
    def known(self) -> State:
        """The state; a life has one from its preparation on."""
        assert self.state is not None
        return self.state

    @property
    def killed_by_oom(self) -> bool:
        """Whether the kernel killed a process of this container for lack of memory."""
        return isinstance(self.cgroup, Cgroup) and bool(self.cgroup.oom_kills())

    # --- the steps -----------------------------------------------------------------------------

    def _reserve(self) -> None:
        self.directory = StateDir.reserve(self.options.root, self.directory.id)
        self._undo.append(self.directory.remove)
        self.directory.open_process()
        self.directory.save_config(self.config)
        if not any(isinstance(step, steps.MakeCgroup) for step in self.plan):
            self.directory.save(self.known)

    def _make_cgroup(self, step: steps.MakeCgroup) -> None:
        mount = find_mount()
        path = resolve(step.path, self.directory.id, own())
        cgroup = Cgroup(mount, path)
        cgroup.create(step.controllers)
        self.cgroup = cgroup
        self._undo.append(cgroup.clear)  # the child may have forked
        self.state = self.known.but(mount=mount, cgroup=path, made=cgroup.made)
        self.directory.save(self.known)

    def _filter_devices(self, step: steps.FilterDevices) -> None:
        cgroup = self._real_cgroup()
        attach(cgroup.fd, step.program, first=cgroup.is_new, kept=self.filters)

    def _real_cgroup(self) -> Cgroup:
        assert isinstance(self.cgroup, Cgroup)
        return self.cgroup

    def _compile_seccomp(self, step: steps.CompileSeccomp) -> None:
        from ..kernel.seccomp import compiled
        from ..plan.seccomp import key

        cache = os.path.join(self.options.root, ".seccomp")
        self._seccomp = compiled(step.profile, key(step.profile), cache)

    def _connect_console(self, step: steps.ConnectConsole) -> None:
        from ..kernel import sockets

        self.console = sockets.connect(step.path)

    def _open_namespaces(self, step: steps.OpenNamespaces) -> None:
        for kind, path in step.paths.items():
            self._namespaces[kind] = _open_namespace(kind, path)
            if kind in step.foreign:
                _refuse_own(kind, path, step.foreign[kind])

    def _spawn(self, step: steps.Spawn, rest: tuple[steps.Step, ...]) -> None:
        if any(isinstance(later, steps.AwaitStart) for later in rest):
            self._start_fifos = sync.Channel(*self.directory.make_fifos())
        self._undo.append(self._kill_child)
        self.child = self._spawned(step, rest, self.cgroup.fd)
        if not sync.is_alive(self.child.wire) and self.cgroup.fd >= 0:
            self.child.let_go()
            self._bury(self.child)
            self.child = self._spawned(step, rest, -1)
            self._real_cgroup().enter(self.child.pid)
            sync.is_alive(self.child.wire)
        self._close_what_the_child_has()

    def _spawned(self, step: steps.Spawn, rest: tuple[steps.Step, ...], cgroup: int) -> Child:
        """
        The child, born in the cgroup of this descriptor, or in ours (-1) to be moved.

        Linux (6.14 and later) kills who is born in another cgroup than its parent's if only one of
        the two was ever emptied by cgroup.kill: it compares the counts of that. Moving is slower.
        """
        return spawn(
            step,
            rest,
            cgroup,
            self._flags(step),
            self.furnish,
            self.directory.unlock,  # the child's copy of the lock, which would outlive ours
            self._namespaces,
        )

    def _lend(self, step: steps.Spawn, rest: tuple[steps.Step, ...]) -> None:
        """All that is left of the plan happens in the child, which borrows our memory."""
        last_resort = self.rescue or rescue(self.options, self.directory.id, self.known.created)
        self._undo.append(self._kill_child)
        cgroup, flags = self.cgroup.fd, self._flags(step)
        lived = lend(self, rest, flags, last_resort, cgroup)
        if not lived and cgroup >= 0:  # as in `_spawned`
            assert self.child is not None
            self._bury(self.child)
            entrance = self._real_cgroup().entrance()
            try:
                lived = lend(self, rest, flags, last_resort, -1, entrance)
            finally:
                os.close(entrance)
        if not lived:
            raise death("was killed at its birth")
        self._close_what_the_child_has()

    def _flags(self, step: steps.Spawn) -> int:
        made_ahead = c.CLONE_NEWNET if self.network >= 0 else 0
        return (step.flags & ~made_ahead) | self.clone_flags

    def furnish(self, box: Box) -> None:
        """Fill the child's box."""
        box.start = self._start_fifos
        box.namespaces = self._namespaces
        box.console = self.console
        box.seccomp = self._seccomp
        box.network = self.network
        box.target = self.target
        box.cgroup = self.cgroup.directory if isinstance(self.cgroup, Cgroup) else ""
        if self.state is not None:
            box.hook_state = public_state(self.state, "creating", 0)

    def _close_what_the_child_has(self) -> None:
        for fd in (*self._namespaces.values(), self.console):
            if fd >= 0:
                os.close(fd)
        self._namespaces, self.console = {}, -1
        if self._start_fifos is not None:
            self._start_fifos.close()
            self._start_fifos = None

    def _kill_child(self) -> None:
        if self.child is None:  # there was none, or it was waited for
            return
        try:
            calls.send_signal(self.child.pidfd, _signal.SIGKILL)
            os.waitid(os.P_PIDFD, self.child.pidfd, os.WEXITED)
        except (KernelError, ChildProcessError):
            pass  # it has ended and was reaped
        self.child.let_go()
        os.close(self.child.pidfd)

    def _record_pid(self) -> None:
        assert self.child is not None
        pid = self.child.pid
        self.state = self.known.but(pid=pid, start_time=start_time(pid))
        self.directory.save_process(self.known)

    def _adjust_oom_score(self, step: steps.AdjustOomScore) -> None:
        assert self.child is not None
        path = f"/proc/{self.child.pid}/oom_score_adj"
        _write(path, str(step.score), "process.oomScoreAdj")

    def _run_hooks(self, step: steps.RunHooks) -> None:
        from ..wire import hooks

        told = public_state(self.known, "creating", self.known.pid)
        hooks.run_all(step.hooks, step.kind, told, self.known.bundle)

    def _write_pid_file(self, step: steps.WritePidFile) -> None:
        assert self.child is not None
        folder, name = os.path.split(step.path)
        hidden = os.path.join(folder, f".{name}.{os.getpid()}")
        try:
            # O_EXCL: in a folder like /tmp others could have put a link there
            fd = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            os.write(fd, str(self.child.pid).encode())
            os.close(fd)
            os.rename(hidden, step.path)
        except OSError as error:
            if os.path.lexists(hidden):
                os.unlink(hidden)
            raise KernelError.of("write", error.errno or 0, step.path) from None
        self._undo.append(lambda: os.unlink(step.path))

    def _send_pidfd(self, step: steps.SendPidfd) -> None:
        assert self.child is not None
        from ..kernel import sockets

        sockets.send(sockets.connect(step.path), self.child.pidfd)

    def _announce(self) -> None:
        self.state = self.known.but(phase="created")
        self.directory.announce()


def _open_namespace(kind: int, path: str) -> int:
    """A descriptor of a namespace of this kind. Raises KernelError or StateError otherwise."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError.of("open", error.errno or 0, path) from None
    try:
        found = calls.namespace_type(fd)
    except KernelError:
        found = 0
    if found != kind:
        os.close(fd)
        raise StateError(
            f"is no {FILES[kind]} namespace",
            at=path,
            remedy="name a file of /proc/PID/ns of that type, or a bind mount of one",
        )
    return fd


def _refuse_own(kind: int, path: str, changed: str) -> None:
    """Raises StateError when a namespace is this process's: what is changed would be the host's."""
    if os.path.samefile(path, f"/proc/self/ns/{FILES[kind]}"):
        raise StateError(
            f"is the host's own {FILES[kind]} namespace, which {changed} would change",
            at=path,
            remedy="make the namespace new, or drop what changes it",
        )


def _write(path: str, text: str, at: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError.of(f"write {path}", error.errno or 0, f"{at} = {text}") from None
