"""The caller's supplementary groups, kept by an annotation of crun."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..spec.records import Process
    from .facts import Facts


def keeping_groups(process: Process, facts: Facts) -> tuple[Process, Facts]:
    """The process without groups to set, on a host that sets none."""
    user = process.user.replace(additionalGids=()) if process.user else None
    return process.replace(user=user), facts.replace(sets_groups=False)
