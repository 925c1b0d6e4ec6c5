"""The protocol between parent and child; a child of vfork(2) needs none of its modules."""

from __future__ import annotations

EXIT_FAILED = 255  # the exit status of a child that did not become its program
