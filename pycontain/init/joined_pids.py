"""
The program's process in a pid namespace that others are in.

They see it from its first moment, and may inspect it (ptrace(2)): so it must not have anything that
they could gain (CVE-2016-9962). The child, which stays outside, already has the program's identity
and limits; it creates a bare process (`kernel.bare`), which performs the remaining steps.
"""

from __future__ import annotations

from ..errors import HookError, KernelError, ProgramError
from ..kernel import calls
from ..kernel import const as c
from ..kernel._ffi import ffi
from ..kernel.bare import Orders
from ..lean import jsontext, os
from ..plan import steps
from ..plan.steps import joined_pids
from ..plan.steps.hooks import RunContainerHooks
from ..plan.walk import child_step
from ..wire import EXIT_FAILED, prepared
from ..wire.sync import PID_SIZE
from . import diagnose, program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..plan.steps import Step
    from ..spec.records import Hook
    from ..wire.sync import Channel
    from .context import Context

_UNKNOWN = "?" * PID_SIZE  # in place of the pid that the process has inside
_MESSAGE = 4096  # bytes; what `start` sends is shorter


@child_step(joined_pids.JoinPids)
def join_pids(step: joined_pids.JoinPids, context: Context) -> None:
    """Put children into the pid namespace that the parent opened."""
    calls.setns(context.namespaces[c.CLONE_NEWPID], c.CLONE_NEWPID)
    prepare(context)


def prepare(context: Context) -> None:
    """Allocate memory for the orders now: a filter that is loaded later might not allow it."""
    context.orders = Orders()


@child_step(joined_pids.EnterPids)
def enter_pids(step: joined_pids.EnterPids, context: Context) -> None:
    """
    Create the program's process and exit. Does not return.

    By now the parent waits for our end. Errors are reported while the channel is open; it is closed
    before the new process exists, which must not have it even for a moment.
    """
    if context.monitor is not None:
        from . import vm  # loaded by the parent

        vm.enter(step, list(_after(step, context)), context)
    entrance, shared = context.entrance, context.shared_pid
    assert entrance is not None, "the parent makes the pipes for this step"
    assert shared is not None
    process = _Process(context, entrance)
    process.begin(step)
    for later in _after(step, context):
        process.perform(later)
    context.close_but(process.kept)
    process.close_listener(step)
    status = 0
    try:
        process.orders.spawn(c.CLONE_PARENT | c.CLONE_PARENT_SETTID)
    except KernelError as error:
        shared.number, status = -error.errno, EXIT_FAILED
    os._exit(status)


def _after(step: Step, context: Context) -> Iterator[Step]:
    """The child's steps after a step."""
    ours = (later for turn in context.turns if turn.side == "child" for later in turn.steps)
    for later in ours:
        if later is step:
            break
    yield from ours


class _Process:
    """
    The process inside: the steps that it is to perform, as system calls.

    kept   the descriptors that it gets, besides the standard ones and the program's
    begun  how many of its calls come before it was taken over
    """

    def __init__(self, context: Context, entrance: Channel) -> None:
        assert context.orders is not None, "made as children were put into the namespace"
        self.context = context
        self.orders = context.orders
        self.orders.report = entrance.writer
        self.entrance = entrance
        self.kept = entrance.fds
        self.begun = 0
        self.pid = 0  # the address of its pid in the environment, until then of scratch space
        self.pid_in_state = self.orders.place(b" " * PID_SIZE + b"}")

    def begin(self, step: joined_pids.EnterPids) -> None:
        """Add its first calls: report that it exists, create a session, wait to be taken over."""
        name = step.name
        self._send(prepared.EXISTS)
        self._call(c.SYS_setsid, text=_failure("setsid", name))
        if step.terminal:
            self._call(c.SYS_ioctl, 0, c.TIOCSCTTY, 0, text=_failure("ioctl TIOCSCTTY", name))
        if step.filter_ is not None:
            self._load_filter(step.filter_)
        if step.capabilities is not None:
            self._set_capabilities(step.capabilities)
        command = self._command()
        reader = self.entrance.reader
        self._call(c.SYS_read, reader, self.pid, PID_SIZE, least=1)
        self._call(c.SYS_read, reader, self.pid_in_state, PID_SIZE, least=1)
        self.command, self.begun = command, self.orders.count

    def close_listener(self, step: joined_pids.EnterPids) -> None:
        """
        Close the filter's listener, if it has one, once the process was taken over.

        Only the agent must hold it: otherwise, if the agent ended before execve(2), system calls
        would wait for it forever. The listener will get the lowest number that is free now.
        """
        if step.filter_ is not None and step.filter_.flags & c.SECCOMP_FILTER_FLAG_NEW_LISTENER:
            number = os.dup(self.entrance.writer)
            os.close(number)
            self.orders.call(c.SYS_close, number, at=self.begun)

    def perform(self, step: Step) -> None:
        """Add the calls of a later step."""
        match step:
            case steps.AwaitStart():
                self._await_start()
            case steps.LoadSeccomp():
                self._load_filter(step)
            case RunContainerHooks():
                self._run_hooks(step)
            case steps.SetRlimits():
                self._set_limits(step)
            case steps.Execute():
                self._execute(step)
            case _:
                raise AssertionError(f"{step.name} cannot be performed inside")

    def _call(self, number: int, *arguments: int, least: int = 0, text: bytes = b"") -> None:
        self.orders.call(number, *arguments, least=least, text=text)

    def _send(self, message: bytes) -> None:
        orders = self.orders
        self._call(c.SYS_write, orders.report, orders.place(message), len(message), least=1)

    def _load_filter(self, step: steps.LoadSeccomp) -> None:
        """Load a struct sock_fprog: the number of instructions, and their address."""
        code = self.context.seccomp
        length = len(code) // ffi.sizeof("struct sock_filter")
        filters = ffi.new("struct sock_fprog *")
        filters.len = length
        filters.filter = ffi.cast("struct sock_filter *", self.orders.place(code))
        address = self.orders.place(bytes(ffi.buffer(filters)))
        mode = c.SECCOMP_SET_MODE_FILTER
        self._call(c.SYS_seccomp, mode, step.flags, address, text=_failure("seccomp", step.name))

    def _set_capabilities(self, step: steps.SetCapabilities) -> None:
        header, data = (
            self.orders.place(bytes(ffi.buffer(part)))
            for part in calls.capability_sets(step.effective, step.permitted, step.inheritable)
        )
        self._call(c.SYS_capset, header, data, text=_failure("capset", step.name))

    def _await_start(self) -> None:
        """
        Close the pipes to the parent, which tells it that the process waits, and wait for `start`.

        From here on it reports through a FIFO.
        """
        fifos = self.context.start
        assert fifos is not None, "the parent makes the FIFOs for this step"
        self.kept |= fifos.fds
        self._call(c.SYS_close, self.entrance.reader)
        self._call(c.SYS_close, self.entrance.writer)
        self.orders.report = fifos.writer
        self._call(c.SYS_read, fifos.reader, self.orders.place(bytes(_MESSAGE)), _MESSAGE, least=1)

    def _set_limits(self, step: steps.SetRlimits) -> None:
        for name, number, soft, hard, at in step.limits:
            limit = self.orders.place(bytes(ffi.buffer(ffi.new("struct rlimit *", (soft, hard)))))
            text = _failure("prlimit", step.name, at, f"{name} {soft}:{hard}")
            self._call(c.SYS_prlimit64, 0, number, limit, text=text)

    def _run_hooks(self, step: RunContainerHooks) -> None:
        """
        Run hooks one after the other; what they print goes where the program's output goes.

        The state on their standard input ends with the pid, which is added in the namespace.
        """
        state = {**self.context.hook_state, "status": "created"}
        state.pop("pid")
        text = jsontext.dumps(state).encode()[:-1] + b',"pid":'
        for number, hook in enumerate(step.hooks):
            call = f"error running {step.kind} hook #{number}"
            self._run_hook(hook, HookError("", call=call, at=hook.path, step=step.name), text)

    def _run_hook(self, hook: Hook, error: HookError, text: bytes) -> None:
        from .. import hooks  # loaded by the parent

        reader, writer = hooks.filled_pipe(text, PID_SIZE + 1)
        self.kept |= {reader, writer}
        self._call(c.SYS_write, writer, self.pid_in_state, PID_SIZE + 1)
        self._call(c.SYS_close, writer)
        env = hook.env or tuple(f"{name}={value}" for name, value in self.context.env.items())
        call = (
            self.orders.string(os.fsencode(hook.path)),
            self.orders.strings(map(self._string, hook.args or (hook.path,))),
            self.orders.strings(map(self._string, env)),
        )
        refused = HookError("cannot be executed: ", call=error.fault.call, at=hook.path)
        self.orders.run(3, hook.timeout, prepared.hook_failure(error, hook.timeout))
        self._call(c.SYS_setpgid, 0, 0)
        self._call(c.SYS_dup3, reader, 0, 0)
        self._call(c.SYS_execve, *call, text=prepared.failure(refused.in_step(error.fault.step)))
        self._call(c.SYS_close, reader)

    def _string(self, text: str) -> int:
        return self.orders.string(os.fsencode(text))

    def _command(self) -> tuple[int, int, int]:
        """The addresses of the program's path, arguments and environment; sets that of its pid."""
        last = self.context.turns[-1].steps
        [execute] = [step for step in last if isinstance(step, steps.Execute)]
        path, arguments, environment = program.command(execute, self.context, _UNKNOWN)
        variables = [self.orders.string(variable) for variable in environment]
        if execute.listen_fds:
            name = b"LISTEN_PID="
            index = environment.index(name + _UNKNOWN.encode())
            self.pid = variables[index] + len(name)
        else:
            self.pid = self.orders.place(bytes(PID_SIZE))
        words = [self.orders.string(word) for word in arguments]
        strings = self.orders.strings
        return self.orders.string(path), strings(words), strings(variables)

    def _execute(self, step: steps.Execute) -> None:
        name = self.context.program
        cases = diagnose.refusals(name, self.context.inside) if name else {}
        for case in cases.values():
            case.in_step(step.name)
        error = ProgramError(f'exec: "{name}": ', status=126, step=step.name)
        self._send(prepared.EXEC)
        self._call(c.SYS_execve, *self.command, text=prepared.failure(error, cases))


def _failure(call: str, step: str, at: str = "", value: str = "") -> bytes:
    """What the process sends when one of its calls fails."""
    return prepared.failure(KernelError("", call=call, step=step, at=at, value=value))
