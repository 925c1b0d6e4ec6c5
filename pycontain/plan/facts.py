"""What a plan needs to know about the host: read once by the runtime, invented by tests."""

from __future__ import annotations

from ..lean.record import Record


class Facts(Record):
    """
    The properties of the host that affect a plan.

    last_capability   the highest capability number of this kernel
    permitted         the runtime's own permitted capabilities, a bit mask
    bounding          the runtime's own bounding set, a bit mask
    """

    last_capability: int
    permitted: int
    bounding: int
