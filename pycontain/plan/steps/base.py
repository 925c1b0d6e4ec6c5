"""What all steps have in common."""

from __future__ import annotations

from ...lean.record import Record


class Step(Record):
    """The base of all steps."""

    side = "child"
    name = ""
    why: str = ""

    def what(self) -> str:
        """What this step does, in one line."""
        raise NotImplementedError

    def place(self) -> str:
        """What its errors name in addition, such as a mount; "" if its name says enough."""
        return ""


class ParentStep(Step):
    side = "parent"
