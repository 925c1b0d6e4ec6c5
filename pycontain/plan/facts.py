"""What a plan needs to know of the host: read once by the runtime, made up by tests."""

from __future__ import annotations

from ..lean.record import Record


class Facts(Record):
    """
    The host, as far as it changes a plan.

    last_capability   the highest capability number of this kernel
    permitted         the runtime's own permitted capabilities, a bit mask
    bounding          the runtime's own bounding set, a bit mask
    """

    last_capability: int
    permitted: int
    bounding: int
