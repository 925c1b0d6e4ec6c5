"""The steps of `plan.steps.filesystem`: importing this module imports their functions."""

from __future__ import annotations

from . import devices, pivot, protection, rootfs  # noqa: F401
