"""The parent's steps for the cgroup manager "systemd", in the order of `steps.unit`."""

from __future__ import annotations

from ..cgroup.place import find_mount
from ..cgroup.systemd import Manager
from ..cgroup.unit import UnitCgroup
from ..plan.steps import unit
from ..plan.systemd import creation
from ..plan.walk import parent_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .launch import ContainerLaunch


@parent_step(unit.FindUnit)
def find_unit(step: unit.FindUnit, launch: ContainerLaunch) -> None:
    """Connect, and write the state, which includes the unit that will be started."""
    manager = Manager(user=step.user, until=launch.caller.until)
    try:
        path = manager.control_group + step.unit.path
        cgroup = UnitCgroup(find_mount(), path, step.unit.name, user=step.user, manager=manager)
    except BaseException:
        manager.close()
        raise
    launch.cgroup = launch.unit = cgroup
    launch.state = launch.state.replace(
        mount=cgroup.mount, cgroup=path, unit=step.unit.name, user_unit=step.user
    )
    launch.directory.save(launch.state)


@parent_step(unit.StartUnit)
def start_unit(step: unit.StartUnit, launch: ContainerLaunch) -> None:
    """Start the unit, with the child in it."""
    cgroup = launch.unit
    properties = dict(creation(step.unit, step.id, launch.child.pid)) | dict(step.properties)
    launch.on_undo(cgroup.clear)
    cgroup.start(properties.items())
    launch.state = launch.state.replace(made=cgroup.made)
    launch.directory.save(launch.state)
    if step.unit.is_slice:
        cgroup.enter(launch.child.pid)
