"""Which function performs which of the child's steps: the modules of this package fill it."""

from __future__ import annotations

from ..plan.walk import Performers

performs = Performers("child")
