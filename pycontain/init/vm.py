"""The last step of a container whose program runs in a virtual machine."""

from __future__ import annotations

import errno

from ..errors import GuestError, ProgramError
from ..kernel import calls, tty
from ..lean import os
from ..plan.steps import vm
from ..plan.walk import child_step
from ..vm import contained
from ..wire import EXIT_FAILED, prepared, sync
from ..wire.sync import PID_SIZE
from . import diagnose, program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..plan.steps import Step
    from ..plan.steps.joined_pids import EnterPids
    from .context import Context


@child_step(vm.RunInVm)
def run_in_vm(step: vm.RunInVm, context: Context) -> None:
    """Become the monitor of the program. Does not return; raises what prevents the program."""
    monitor, channel = context.monitor, context.parent
    assert monitor is not None, "the parent has loaded it"
    environment = program.command(step, context)[2]
    context.close_but({context.inside.fd, *monitor.fds, *channel.fds})

    def running() -> None:
        sync.report_exec(channel, context.new_times())
        channel.close()

    try:
        contained.serve(
            monitor, context.program, step.args, environment, memory=step.memory, running=running
        )
    except (GuestError, ProgramError) as error:
        if error.fault.at != context.program:
            raise
        number = error.errno or errno.ENOEXEC
        raise diagnose.refusal(context.program, number, context.inside) from None


def enter(step: EnterPids, later: Iterable[Step], context: Context) -> None:
    """
    Create the monitor's process in the pid namespace, and exit. Does not return.

    Unlike a bare process (`joined_pids`) it has a copy of our memory: it is not dumpable, and what
    else is in the namespace are monitors, which cannot inspect it.
    """
    entrance, shared = context.entrance, context.shared_pid
    assert entrance is not None, "the parent makes the pipes for this step"
    assert shared is not None
    pid = calls.fork_sibling()
    if pid:
        shared.number = pid
        os._exit(0)
    try:
        context.parent.close()  # the parent waits for its end
        context.channel = entrance
        os.write(entrance.writer, prepared.EXISTS)
        os.setsid()
        if step.terminal:
            tty.make_controlling(0)
        steps = [each for each in (step.filter_, step.capabilities) if each is not None]
        for first in steps:
            child_step.perform(first, context)
        for _ in range(2):  # its pid, which is known here
            if not os.read(entrance.reader, PID_SIZE):
                os._exit(EXIT_FAILED)
        for each in later:
            child_step.perform(each, context)
    except BaseException as error:
        sync.report_fault(context.parent, error)
    os._exit(EXIT_FAILED)
