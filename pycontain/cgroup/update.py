"""The limits of `update`: merged with the old ones, checked, written."""

from __future__ import annotations

from ..errors import StateError
from ..lean.record import Record
from ..plan import resources
from . import controllers
from .unit import UnitCgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from ..errors import HostError
    from ..spec.records import Memory, Resources
    from .restore import Restorable
    from .tree import Cgroup

    R = TypeVar("R", bound=Record)


def update(
    restorable: Restorable,
    old: Resources,
    new: Resources,
    without: Callable[[HostError], None] = controllers.refuse,
) -> Resources:
    """
    Apply the old limits with the new ones on top to a cgroup; returns them merged.

    If one is refused, the caller has to `restore` the others.

    All are written again, as in runc, which replaces values that others have written in between.
    Device rules are merged but not applied (`devices.attach`). Raises StateError for a limit that
    usage has already reached, if `checkBeforeUpdate` is set, and what `resources.files` and
    `Cgroup.write` raise.
    """
    merged = merge(old, new)
    settings = resources.files(merged)
    if merged.memory and merged.memory.checkBeforeUpdate:
        _check_usage(restorable.cgroup, merged.memory)
    if isinstance(restorable.cgroup, UnitCgroup):
        restorable.remember(settings)  # systemd writes them, too
        restorable.cgroup.change(settings)
    restorable.write(settings, without)
    return merged


def restore(restorable: Restorable, old: Resources) -> None:
    """Undo an update; `old` are the limits before it. Raises KernelError, HostError."""
    if isinstance(restorable.cgroup, UnitCgroup):
        restorable.cgroup.change(resources.files(old))
    restorable.restore()


def _check_usage(cgroup: Cgroup, memory: Memory) -> None:
    """config-linux.md, Memory: a limit below the usage would trigger the OOM killer."""
    if "memory.current" not in cgroup.files():
        return  # writing the limit will fail with the reason
    used = int(cgroup.read("memory.current"))
    for field, limit in (("limit", memory.limit), ("swap", memory.swap)):
        if limit and 0 < limit <= used:
            raise StateError(
                f"is not above the {used} bytes in use",
                at=f"{memory.at}.{field}",
                value=str(limit),
                remedy="free memory first, or leave checkBeforeUpdate out",
            )


def merge(old: Resources, new: Resources) -> Resources:
    """The old limits with the new ones on top."""
    pages = {limit.pageSize: limit for limit in (*old.hugepageLimits, *new.hugepageLimits)}
    merged = old.replace(
        devices=new.devices or old.devices,
        memory=_over(old.memory, new.memory),
        cpu=_over(old.cpu, new.cpu),
        pids=_over(old.pids, new.pids),
        blockIO=_over(old.blockIO, new.blockIO),
        hugepageLimits=tuple(pages.values()),
        network=_over(old.network, new.network),
        rdma={**old.rdma, **new.rdma},
    )
    newer = _files(merged) - _files(old)
    overridden = {setting.file for setting in newer}  # unified takes precedence, but not if older
    kept = {file: text for file, text in old.unified.items() if file not in overridden}
    return merged.replace(unified={**kept, **new.unified})


def _over(old: R | None, new: R | None) -> R | None:
    """One record, with the fields that another one sets taken from that."""
    if old is None or new is None:
        return old or new
    unset = (None, ())
    fields = {name: value for name, value in new.fields().items() if value not in unset}
    return old.replace(**fields).replace(at=old.at)  # type: ignore[attr-defined]


def _files(limits: Resources) -> set[resources.Setting]:
    return set(resources.files(limits.replace(unified={})))
