"""`linux.intelRdt` to steps. config-linux.md, IntelRdt."""

from __future__ import annotations

from .steps.rdt import MakeRdtGroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..spec.records import IntelRdt


def lines_of(rdt: IntelRdt) -> tuple[str, ...]:
    """The lines of the class's schemata, in the order in which they are written."""
    cache = (rdt.l3CacheSchema or "").splitlines()
    return (
        # bandwidth has a property of its own, which is the one that counts
        *(line for line in cache if not line.strip().startswith("MB:")),
        *(rdt.memBwSchema or "").splitlines(),
        *rdt.schemata,
    )


def group_step(rdt: IntelRdt) -> MakeRdtGroup:
    """The step that makes the group."""
    return MakeRdtGroup(
        group=rdt.closID or "",
        lines=lines_of(rdt),
        monitored=rdt.enableMonitoring,
        why="linux.intelRdt",
    )
