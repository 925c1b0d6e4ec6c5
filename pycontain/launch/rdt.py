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
    """Create the group, recorded in the state directory, with which it is removed."""
    group = Group(step.group, launch.directory.id, monitored=step.monitored)
    group.make(step.group, step.lines, lambda paths: write_groups(launch.directory, paths))
    launch.rdt = group


@parent_step(rdt.JoinRdtGroup)
def join_rdt_group(step: rdt.JoinRdtGroup, launch: ContainerLaunch) -> None:
    """Write the child's pid; its children inherit the class."""
    launch.rdt.join(launch.child.pid)
