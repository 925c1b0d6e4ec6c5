"""What all steps have in common."""

from __future__ import annotations

from ...lean.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar


class Step(Record):
    """The base of all steps."""

    side: ClassVar[str] = "child"
    name: ClassVar[str] = ""
    why: str = ""

    def what(self) -> str:
        """What this step does, in one line."""
        raise NotImplementedError

    def place(self) -> str:
        """What its errors name in addition, such as a mount; "" if its name says enough."""
        return ""


class ParentStep(Step):
    side: ClassVar[str] = "parent"
