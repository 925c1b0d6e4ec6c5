"""Which function performs which of the parent's steps: `launch.steps` fills it."""

from __future__ import annotations

from ..plan.walk import Performers

performs = Performers("parent")
