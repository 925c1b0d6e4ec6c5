"""The child sets its scheduling and its execution domain."""

from __future__ import annotations

import errno

from ..errors import KernelError
from ..kernel import calls
from ..plan.steps import scheduling
from ..plan.walk import child_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context


@child_step(scheduling.SetAffinity)
def set_affinity(step: scheduling.SetAffinity, context: Context) -> None:
    """Run on these CPUs from now on."""
    calls.set_affinity(step.cpus, step.why)


@child_step(scheduling.SetScheduler)
def set_scheduler(step: scheduling.SetScheduler, context: Context) -> None:
    """Set the CPU scheduling of this process."""
    schedule(step)


def schedule(step: scheduling.SetScheduler, pid: int = 0) -> None:
    """Set the CPU scheduling of a process, 0 for this one. Raises KernelError."""
    try:
        calls.sched_setattr(
            step.policy, step.flags, step.nice, step.priority, step.runtime, step.deadline,
            step.period, pid,
        )  # fmt: skip
    except KernelError as error:
        error.fault.at = error.fault.at or step.why
        if error.errno == errno.EPERM:  # sched(7): a deadline is a promise of all CPUs together
            error.fault.remedy = (
                "leave linux.resources.cpu.cpus out: SCHED_DEADLINE cannot be restricted to some"
                " CPUs; realtime policies need CAP_SYS_NICE, too"
            )
        raise


@child_step(scheduling.SetIoPriority)
def set_io_priority(step: scheduling.SetIoPriority, context: Context) -> None:
    """Set the I/O priority of this process."""
    calls.ioprio_set(step.priority)


@child_step(scheduling.SetPersonality)
def set_personality(step: scheduling.SetPersonality, context: Context) -> None:
    """Set the execution domain of this process."""
    calls.personality(step.persona)
