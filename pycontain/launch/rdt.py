"""The parent's steps for Intel RDT."""

from __future__ import annotations

from ..cgroup.rdt import Group
from ..plan.steps import rdt
from ..plan.walk import parent_step
from ..state.groups import write_groups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .launch import ContainerLaunch


@parent_step(rdt.MakeRdtGroup)
def make_rdt_group(step: rdt.MakeRdtGroup, launch: ContainerLaunch) -> None:
    """Make the group; it is removed with the state directory, where what was made is recorded."""
    group = Group(step.group, launch.directory.id, monitored=step.monitored)
    group.make(step.group, step.lines, lambda made: write_groups(launch.directory, made))
    launch.rdt = group


@parent_step(rdt.JoinRdtGroup)
def join_rdt_group(step: rdt.JoinRdtGroup, launch: ContainerLaunch) -> None:
    """Write the child's pid; what it creates follows it."""
    launch.rdt.join(launch.child.pid)
